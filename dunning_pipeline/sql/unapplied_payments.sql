-- Payments of a part of the customers that belong to no invoice, or to one that no source ever had: `orphans` holds the
-- keys of those (RULES 1.4).
select customer_key, -1 as invoice_key, amount_minor, paid_on, recorded_on, currency::currency_code as currency
from (
    select * from source.payments where invoice_key is null
    union all
    select * from source.payments semi join orphans using (invoice_key)
)
where paid_on <= $last and recorded_on <= $last and customer_key % $parts = $part

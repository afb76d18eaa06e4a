-- Payments of a part of the customers that belong to no invoice, or to one that no source had yet (RULES 1.4): `orphans`
-- holds the keys of those that none ever had. What came before its invoice is taken back on the day on which the invoice
-- became known, as it is a payment of it from then on; so a day is derived again as it was decided.
with without_invoice as (
    select customer_key, currency, amount_minor, paid_on, recorded_on
    from source.payments
    where invoice_key is null
    union all
    select customer_key, currency, amount_minor, paid_on, recorded_on
    from source.payments semi join orphans using (invoice_key)
),
early as materialized (
    select p.customer_key, p.currency, p.amount_minor, p.paid_on, p.recorded_on, i.recorded_on as applied_on
    from source.payments as p
    join source.invoices as i using (invoice_key)
    where i.recorded_on > $first and i.recorded_on > greatest(p.paid_on, p.recorded_on)
)
select customer_key, -1 as invoice_key, amount_minor, paid_on, recorded_on, currency::currency_code as currency
from (
    from without_invoice
    union all
    select customer_key, currency, amount_minor, paid_on, recorded_on from early
    union all
    select customer_key, currency, -amount_minor, applied_on, applied_on from early
)
where paid_on <= $last and recorded_on <= $last and customer_key % $parts = $part

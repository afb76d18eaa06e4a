-- What was applied to invoices and becomes known after the first day of a window.
select customer_key, invoice_key, amount_minor, paid_on, recorded_on, currency::currency_code as currency
from source.payments
where (paid_on > $first or recorded_on > $first) and paid_on <= $last and recorded_on <= $last
    and invoice_key is not null

-- What was applied to invoices by a day, whatever source it came from: what was paid stays paid.
select invoice_key, amount_minor, currency
from source.payments
where paid_on <= $day and recorded_on <= $day and invoice_key is not null

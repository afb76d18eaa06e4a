-- Promises known by the last day of a window; an invoice_key of -1 covers everything the customer owed.
select
    promise_id, customer_key, coalesce(invoice_key, -1) as invoice_key, promised_on, pay_by,
    pauses, withdrawn_on, recorded_on
from source.promises
where recorded_on <= $last

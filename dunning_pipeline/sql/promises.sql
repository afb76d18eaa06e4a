-- Promises known by the last day of a window; an invoice_key of -1 covers everything the customer owed. Withdrawing
-- a promise by hand appends a row with its id that is withdrawn, and known, on that day: no earlier day changes.
select
    promise_id, customer_key, coalesce(invoice_key, -1) as invoice_key, promised_on, pay_by,
    pauses, min(withdrawn_on) as withdrawn_on, min(recorded_on) as recorded_on
from source.promises
where recorded_on <= $last
group by all

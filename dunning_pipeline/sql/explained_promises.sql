-- Promises of a customer that stand on a day, kept, running or broken (RULES 6.2); no invoice: everything. One that names
-- somebody else's invoice holds nothing.
with promises as (
    select promise_id, source, invoice_id, promised_on, pay_by, pauses, min(withdrawn_on) as withdrawn_on
    from source.promises
    where recorded_on <= $day and customer_key = $customer_key
    group by all
)
select promise_id, source, invoice_id, promised_on, pay_by, pauses
from promises
where promised_on <= $day and (withdrawn_on is null or withdrawn_on > $day)
    and (invoice_id is null or invoice_id in (select invoice_id from source.invoices where customer_key = $customer_key))
order by promised_on, promise_id

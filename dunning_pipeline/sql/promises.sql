-- Promises known by the last day of a window; an invoice_key of -1 covers everything the customer owed, -2 stands for an
-- invoice of somebody else, which the promise does not hold. Withdrawing a promise by hand appends a row with its id that
-- is withdrawn, and known, on that day: no earlier day changes.
select
    p.promise_id, p.customer_key, p.promised_on, p.pay_by, p.pauses,
    case when p.invoice_id is null then -1 else coalesce(i.invoice_key, -2) end as invoice_key,
    min(p.withdrawn_on) as withdrawn_on, min(p.recorded_on) as recorded_on
from source.promises as p
left join (
    select invoice_key, customer_key
    from source.invoices
    semi join (select invoice_key from source.promises where invoice_key is not null) using (invoice_key)
) as i on i.invoice_key = p.invoice_key and i.customer_key = p.customer_key
where p.recorded_on <= $last
group by all

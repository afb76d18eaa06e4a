-- All invoices of a customer, with what of them is open by what was known on a day (RULES 1.2), whether they count or not.
with paid as (
    select p.invoice_key, p.currency, sum(p.amount_minor)::bigint as amount_minor
    from source.payments as p
    where p.paid_on <= $day and p.recorded_on <= $day
    group by all
)
select
    i.invoice_id, coalesce(i.number, i.invoice_id) as number, i.issued_on, i.due_on, i.currency, i.total_minor, i.status,
    i.recorded_on, i.voided_on, i.written_off_on, i.disputed_on, i.dispute_resolved_on, i.missing_since, i.source,
    i.total_minor - coalesce(paid.amount_minor, 0) as open_minor
from source.invoices as i
left join paid using (invoice_key, currency)
where i.customer_key = $customer_key
order by i.due_on nulls last, i.issued_on, i.invoice_id

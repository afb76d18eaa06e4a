-- Assignments known by the last day of a window. An invoice_key of -1 is an assignment of the customer; -2 stands for an
-- invoice that is not of this customer, which is assigned to nothing.
select
    a.assignment_id, a.customer_key, a.workflow, a.assigned_from, a.assigned_until, a.recorded_on,
    case when a.invoice_id is null then -1 else coalesce(i.invoice_key, -2) end as invoice_key
from source.assignments as a
left join (
    select invoice_key, customer_key
    from source.invoices
    semi join (select invoice_key from source.assignments where invoice_key is not null) using (invoice_key)
) as i on i.invoice_key = a.invoice_key and i.customer_key = a.customer_key
where a.recorded_on <= $last

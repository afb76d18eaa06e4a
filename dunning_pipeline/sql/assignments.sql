-- Assignments known by the last day of a window; an invoice_key of -1 is an assignment of the customer.
select
    assignment_id, customer_key, coalesce(invoice_key, -1) as invoice_key, workflow, assigned_from,
    assigned_until, recorded_on
from source.assignments
where recorded_on <= $last

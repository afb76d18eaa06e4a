-- Assignments of a customer and of its invoices that are in force on a day (RULES 3.1), the one that wins first.
select assignment_id, source, invoice_id, workflow, assigned_from, assigned_until
from source.assignments
where customer_id = $customer_id and recorded_on <= $day
    and assigned_from <= $day and (assigned_until is null or assigned_until > $day)
order by assigned_from desc, assignment_id desc

-- Customers and invoices with several assignments in force on a day, the one that counts first (RULES 3.1).
with several as (
    select
        coalesce('invoice ' || invoice_id, 'customer ' || customer_id) || ': '
            || string_agg(assignment_id, ' before ' order by assigned_from desc, assignment_id desc) as told
    from source.assignments
    where recorded_on <= $day and assigned_from <= $day and (assigned_until is null or assigned_until > $day)
    group by customer_id, invoice_id
    having count(*) > 1
)
select count(*) as n, array_to_string(min(told, 5), ', ') as ids
from several

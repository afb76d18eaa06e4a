-- Assignments that count on a day and leave a customer, or an invoice, without a workflow (RULES 2.4, 3.1): the workflow
-- is none of the policy's, or one of the other level.
with counting as (
    select assignment_id, invoice_id, workflow
    from source.assignments
    where recorded_on <= $day and assigned_from <= $day and (assigned_until is null or assigned_until > $day)
    qualify row_number() over (
        partition by customer_id, invoice_id order by assigned_from desc, assignment_id desc
    ) = 1
)
select
    list_contains($workflows, workflow) as known,
    count(*) as n,
    array_to_string(min(assignment_id || ' to ' || workflow, 5), ', ') as ids
from counting
where workflow <> 'unassigned'
    and not list_contains(case when invoice_id is null then $of_customers else $of_invoices end, workflow)
group by known
order by known

-- Everybody is reminded of the oldest of three invoices.
select
    getvariable('today') as as_of, printf('C%09d', customer_key) as customer_id, 'customer' as level,
    printf('I%09d', 3 * customer_key) as carrying_invoice_id, 'standard' as workflow, 'default' as assigned_by,
    'reminder_2' as action, 3 as action_position, 1 as occurrence, getvariable('today') as trigger_on,
    getvariable('today') - 7 as last_contact_on, getvariable('today') as next_due_on, 'remind' as decision,
    uuid()::varchar as reminder_id, customer_key, 3 * customer_key as invoice_key, 'benchmark' as run_id
from customers

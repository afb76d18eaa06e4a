-- Each reminder was attempted and accepted.
select
    md5(number::varchar)::uuid::varchar as reminder_id, 'invoice' as stream, 'benchmark' as batch_id,
    printf('C%09d', customer_key) as customer_id, printf('I%09d', invoice_key) as carrying_invoice_id,
    'customer' as level, 'standard' as workflow, getvariable('actions')[position + 1] as action,
    1 as occurrence, customer_key, invoice_key, 1 as attempt, outcome,
    case outcome when 'accepted' then 202 end as http_status,
    contact_on + time '08:30' as attempted_at, contact_on
from numbers, (values ('attempting'), ('accepted')) as outcomes(outcome)

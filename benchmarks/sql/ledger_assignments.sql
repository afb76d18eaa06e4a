select
    printf('A%09d', customer_key) as assignment_id, printf('C%09d', customer_key) as customer_id,
    'unassigned' as workflow, getvariable('today') - days::integer as assigned_from, getvariable('today') - days::integer as recorded_on,
    'benchmark' as source, customer_key
from numbers

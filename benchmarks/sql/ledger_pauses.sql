select
    printf('Z%09d', customer_key) as pause_id, 'customer' as scope, printf('C%09d', customer_key) as customer_id,
    getvariable('today') - 10 as paused_from, getvariable('today') - 10 as recorded_on, getvariable('today') + days::integer - 4 as paused_until,
    'benchmark' as source, customer_key
from numbers

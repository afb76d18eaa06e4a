select
    printf('R%09d', customer_key) as promise_id, printf('C%09d', customer_key) as customer_id,
    getvariable('today') - 6 as promised_on, getvariable('today') - 6 as recorded_on, getvariable('today') + days::integer - 5 as pay_by, true as pauses,
    'benchmark' as source, customer_key
from numbers

-- state: the place in SHARES, from 1. One invoice in 300 has no due date of its own.
select
    printf('I%09d', invoice_key) as invoice_id, printf('C%09d', customer_key) as customer_id,
    printf('2025-%d', invoice_key) as number, issued_on,
    case when invoice_key % 300 > 0 then due_on end as due_on,
    'EUR' as currency, total_minor,
    case state when 3 then 'written_off' when 4 then 'draft' else 'open' end as status,
    issued_on as recorded_on,
    case state when 2 then issued_on + 3 end as voided_on,
    case state when 3 then due_on + 90 end as written_off_on,
    case state when 1 then due_on + 5 end as disputed_on,
    case when state = 1 and invoice_key % 2 = 0 then due_on + 40 end as dispute_resolved_on,
    case state when 5 then issued_on + 20 end as missing_since,
    'benchmark' as source, customer_key, invoice_key
from numbers

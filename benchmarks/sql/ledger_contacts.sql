-- By hand: half of them about an invoice, a tenth of them in the place of an action.
select
    printf('K%09d', number) as contact_id, printf('C%09d', customer_key) as customer_id, contacted_on,
    contacted_on as recorded_on, 'call' as channel,
    case when number % 2 = 0 then printf('I%09d', invoice_key) end as invoice_id,
    case when number % 2 = 0 then invoice_key end as invoice_key,
    case when number % 10 = 0 then 'standard' end as workflow,
    case when number % 10 = 0 then 'reminder_2' end as action,
    'benchmark' as source, customer_key
from numbers

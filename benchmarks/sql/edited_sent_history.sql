-- An accepted event about each order.
select
    uuid()::varchar as reminder_id, 'order' as stream, 'earlier' as batch_id, printf('C%09d', order_key % 70000) as customer_id,
    order_id, printf('SalesAgreement/%012d', order_key) as first_edit_id, 1 as occurrence, 1 as attempt, outcome,
    case outcome when 'accepted' then 202 end as http_status, sent_at as attempted_at, sent_at::date as contact_on
from numbers cross join (values ('attempting'), ('accepted')) as outcomes (outcome)
order by sent_at, order_key, outcome desc

-- One order each: edited at a moment of the last day, which left a balance, and told of it a minute later. One in a
-- hundred was told a day ago, so that its next event is due half a minute from now.
select
    order_key, printf('gid-%012d', 5000000000 + order_key) as order_id, printf('#%d', 1000 + order_key) as name,
    getvariable('now') - case
        when order_key % 100 = 0 then interval 24 hours - interval 30 seconds
        else to_seconds(3600 + order_key * 7919 % 79200)
    end as sent_at,
    sent_at - interval 1 minute as edited_at, edited_at - to_hours(1 + order_key % 40) as created_at,
    500 + order_key * 37 % 20000 as outstanding_minor, 2000 + order_key * 101 % 30000 as paid_minor
from generate_series(1, {orders}) as numbers (order_key)

-- What two replays of the same days have in common. A reminder is the same one when customer, invoice, workflow, action
-- and repetition are the same; on another day it was moved.
with one as (select * from dunning.replay_reminders where replay_id = $one),
other as (select * from dunning.replay_reminders where replay_id = $other),
pairs as (
    select one.remind_on as on_day, other.remind_on as other_day
    from one full join other using (customer_id, level, carrying_invoice_id, workflow, action, occurrence)
),
customers as (
    select a.customer_id as one_id, b.customer_id as other_id
    from (select distinct customer_id from one) as a
    full join (select distinct customer_id from other) as b on a.customer_id = b.customer_id
)
select
    (select count(*) from pairs where on_day = other_day) as same_day,
    (select count(*) from pairs where on_day <> other_day) as moved,
    (select count(*) from pairs where other_day is null) as only_one,
    (select count(*) from pairs where on_day is null) as only_other,
    (select count(*) from customers where other_id is null) as customers_only_one,
    (select count(*) from customers where one_id is null) as customers_only_other

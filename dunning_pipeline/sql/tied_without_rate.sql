-- Customers for whom invoices in several currencies share the oldest due date, one of these currencies without a rate
-- (RULES 2.1).
with unrated as (
    select distinct as_of, customer_key
    from dunning.open_invoices
    where as_of between $first and $last and not list_contains($rated, currency)
),
candidates as (
    select o.as_of, o.customer_key, o.customer_id, o.due_on, o.currency
    from dunning.open_invoices as o
    semi join unrated as u on u.as_of = o.as_of and u.customer_key = o.customer_key
    semi join dunning.balances as b
        on b.as_of = o.as_of and b.customer_key = o.customer_key and b.currency = o.currency and b.chaseable
    where o.as_of between $first and $last and o.level = 'customer' and not o.paused
),
oldest as (
    select * from candidates
    qualify due_on = min(due_on) over (partition by as_of, customer_key)
),
tied as (
    select * from oldest
    window of_customer as (partition by as_of, customer_key)
    qualify min(currency) over of_customer <> max(currency) over of_customer
)
select
    count(distinct customer_id) as n,
    array_to_string(min(distinct customer_id, 5), ', ') as ids,
    array_to_string(list_sort(list(distinct currency)), ', ') as currencies
from tied
where not list_contains($rated, currency)

-- What order_events.sql looks at to tell the events about orders that reach some customers of billing, `own_customers`
-- (RULES 8.9): whoever is linked with them or shares an address with one of them. Nothing where there are no such events.
create temp table own_buyers as
select customer_id
from (
    select customer_id from own_customers
    union
    select l.customer_id from source.customer_links as l
    where l.person_id in (select person_id from source.customer_links semi join own_customers using (customer_id))
)
where exists (from dunning.sent_history where stream = 'order');

create temp table own_addresses as
select distinct lower(trim(email)) as email
from (
    select c.email
    from source.customers as c semi join own_customers using (customer_key) semi join own_buyers using (customer_id)
    union all
    select o.email from source.orders as o semi join own_buyers using (customer_id)
)
where trim(email) <> '';

create temp table near_orders as
select o.order_id, o.customer_id from source.orders as o semi join own_buyers using (customer_id)
union
select o.order_id, o.customer_id from source.orders as o semi join own_addresses as a on lower(trim(o.email)) = a.email;

create temp table near_customers as
select customer_id, customer_key from own_customers
union
select c.customer_id, c.customer_key from source.customers as c semi join near_orders using (customer_id)
union
select c.customer_id, c.customer_key
from source.customers as c semi join own_addresses as a on lower(trim(c.email)) = a.email;

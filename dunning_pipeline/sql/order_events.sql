-- Events about orders that customers of billing got as persons, or may have got, by the last day of a window (RULES 5.4,
-- 8.9): accepted ones, and attempts without an outcome (RULES 9.3). What was rejected, not delivered or dropped reached
-- nobody. Addresses and links are taken as they are now (RULES 6).
with attempts as (
    select
        reminder_id, attempt, order_id, customer_id, contact_on, bool_or(outcome = 'accepted') as accepted,
        bool_and(outcome in ('attempting', 'unknown')) as open
    from dunning.sent_history
    where stream = 'order' and contact_on <= $last
    group by reminder_id, attempt, order_id, customer_id, contact_on
),
events as materialized (
    select distinct
        a.contact_on, o.source, coalesce(o.customer_id, a.customer_id) as shop_customer_id,
        nullif(lower(trim(o.email)), '') as email
    from attempts as a left join source.orders as o using (order_id)
    where a.accepted or a.open
),
-- Addresses of no more than one customer of the shop, with that one: orders without a customer are theirs.
shop_addresses as (
    select email, any_value(customer_id) as customer_id
    from (select lower(trim(email)) as email, customer_id from source.orders)
    semi join events using (email)
    group by email having count(distinct customer_id) <= 1
),
buyers as materialized (
    select e.contact_on, e.source, coalesce(e.shop_customer_id, s.customer_id) as shop_customer_id, s.email
    from events as e left join shop_addresses as s using (email)
),
linked as (
    select links.customer_key, b.contact_on
    from buyers as b
    join source.customer_links as of_buyer on of_buyer.customer_id = b.shop_customer_id
    join source.customer_links as links using (person_id)
),
unlinked as materialized (
    select * from buyers as b
    where not exists (from source.customer_links as l where l.customer_id = b.shop_customer_id)
),
-- A system that tells both orders and customers means one customer by one id; ids of two systems mean nothing together.
of_one_system as (
    select c.customer_key, u.contact_on
    from unlinked as u join source.customers as c on c.customer_id = u.shop_customer_id and c.source = u.source
),
billing_addresses as (
    select email, any_value(customer_id) as customer_id, any_value(customer_key) as customer_key
    from (select lower(trim(email)) as email, customer_id, customer_key from source.customers)
    semi join unlinked using (email)
    group by email having count(*) = 1
),
of_one_address as (
    select a.customer_key, u.contact_on
    from unlinked as u join billing_addresses as a using (email)
    where not exists (from source.customer_links as l where l.customer_id = a.customer_id)
        and not exists (from source.customers as c where c.customer_id = u.shop_customer_id and c.source = u.source)
)
select customer_key, contact_on from linked
union
select customer_key, contact_on from of_one_system
union
select customer_key, contact_on from of_one_address

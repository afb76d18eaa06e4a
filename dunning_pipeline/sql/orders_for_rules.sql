-- What decides about each order of `decided_orders`. An order whose source says nothing of it any more, or told nothing
-- for too long, is unclear (RULES 8.7).
with clear_sources as (
    select unnest($clear_sources) as source
),
replaced as (
    select order_id, order_key from source.order_keys
    where order_id in (select replaces_order_id from source.orders where replaces_order_id is not null)
)
select
    o.order_key, o.order_id, o.source, o.name, coalesce(o.customer_id, lower(trim(o.email))) as buyer,
    o.currency::currency_code as currency, o.outstanding_minor, o.created_at, o.cancelled_at,
    coalesce(replaced.order_key, -1) as replaces_order_key,
    o.missing_since is not null or o.source not in (from clear_sources) as unclear,
    o.email, o.phone, null::varchar as external_id
from source.orders as o
semi join decided_orders using (order_key)
left join replaced on replaced.order_id = o.replaces_order_id
order by o.order_key

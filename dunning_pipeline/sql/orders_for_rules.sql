-- Orders that were edited, replace others or were replaced, into `decided_orders`, with what decides and what is told.
-- An order whose source says nothing of it any more, or told nothing for too long, is unclear (RULES 8.7).
create or replace temp table decided_orders as
with replacements as (
    select name, replaces_order_id from source.orders
    where replaces_order_id is not null or regexp_matches(name, '[0-9][A-Z]$')
),
relatives as (
    select order_key from source.order_edits
    union
    select order_key from source.orders where replaces_order_id is not null or regexp_matches(name, '[0-9][A-Z]$')
    union
    select order_key from source.orders where order_id in (select replaces_order_id from replacements)
    union
    select order_key from source.orders where name in (select left(name, length(name) - 1) from replacements)
),
clear_sources as (
    select unnest($clear_sources) as source
)
select
    o.order_key, o.order_id, o.source, o.name, coalesce(o.customer_id, lower(trim(o.email))) as buyer,
    o.currency::currency_code as currency, o.outstanding_minor, o.total_minor, o.received_minor, o.created_at,
    o.cancelled_at, coalesce(replaced.order_key, -1) as replaces_order_key,
    o.missing_since is not null or o.source not in (from clear_sources) as unclear,
    o.customer_id, o.customer_name, o.language, o.email, o.phone, null::varchar as external_id, o.pay_url, o.status_url
from source.orders as o
semi join relatives using (order_key)
left join source.order_keys as replaced on replaced.order_id = o.replaces_order_id
order by o.order_key

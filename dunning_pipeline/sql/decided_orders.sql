-- Keys of the orders that were edited, replace others or were replaced, into `decided_orders`. A letter is looked for
-- before the pattern, because a shop has many orders and patterns cost.
create or replace temp table decided_orders as
with replacements as materialized (
    select order_key, name, replaces_order_id from source.orders
    where replaces_order_id is not null
        or (right(name, 1) between 'A' and 'Z' and regexp_matches(name, '[0-9][A-Z]$'))
)
select order_key from source.order_edits
union
select order_key from replacements
union
select order_key from source.orders where order_id in (select replaces_order_id from replacements)
union
select order_key from source.orders where name in (select left(name, length(name) - 1) from replacements)

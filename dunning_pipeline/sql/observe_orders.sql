-- What was seen of the orders in `incoming`, appended where there is anything new to it (RULES 8.1): they look otherwise
-- than when they were observed last, or have changed or been edited since. Seeing the same again adds nothing, or polling
-- would grow the table by all that changed lately, and a complete list by all orders, every time.
-- An observation is never before what was observed, whatever our clock says, and never before the one it follows.
insert into source.order_observations by name
with latest as (
    select
        order_id, max(observed_at) as observed_at,
        arg_max(
            {
                outstanding: outstanding_minor, currency: currency, payment: financial_status,
                fulfilment: fulfillment_status, cancelled_at: cancelled_at
            },
            observed_at
        ) as seen
    from source.order_observations semi join incoming using (order_id)
    group by order_id
),
edited as (
    select order_id, max(edited_at) as edited_at
    from source.order_edits semi join incoming using (order_id)
    group by order_id
)
select
    o.order_id, o.order_key, o.currency, o.outstanding_minor, o.financial_status, o.fulfillment_status, o.cancelled_at,
    greatest($seen_at, o.updated_at, latest.observed_at + interval 1 microsecond) as observed_at,
    $source as source, $run_id as run_id
from source.orders as o
semi join incoming using (order_id)
left join latest using (order_id)
left join edited using (order_id)
where
    latest.observed_at is null
    or latest.seen is distinct from {
        outstanding: o.outstanding_minor, currency: o.currency, payment: o.financial_status,
        fulfilment: o.fulfillment_status, cancelled_at: o.cancelled_at
    }
    or o.updated_at > latest.observed_at
    or edited.edited_at > latest.observed_at

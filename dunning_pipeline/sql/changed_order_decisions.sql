-- Decisions that are not the same as the latest one about their order; never at the time of that one or before it.
with latest as (
    select
        order_key, max(decided_at) as decided_at,
        arg_max(
            {series: series, decision: decision, reason: reason, due: next_due_at, occurrence: occurrence}, decided_at
        ) as told
    from dunning.order_decisions
    group by order_key
)
select new.* replace (greatest(new.decided_at, latest.decided_at + interval 1 microsecond) as decided_at)
from decided_orders_now as new
left join latest using (order_key)
where latest.told is distinct from {
    series: new.series, decision: new.decision, reason: new.reason, due: new.next_due_at, occurrence: new.occurrence
}

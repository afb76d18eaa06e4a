-- The latest 20, which tell of some days; earlier ones are in the table.
select * from (
    select decided_at, series, decision, reason, next_due_at, occurrence
    from dunning.order_decisions
    where order_id = $order_id and decided_at < $until
    order by decided_at desc
    limit 20
)
order by decided_at

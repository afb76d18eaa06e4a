-- Attempts with what came of each; unknown where nothing is recorded.
select
    min(attempted_at) as attempted_at, occurrence, reminder_id,
    coalesce(max(outcome) filter (outcome <> 'attempting'), 'unknown') as outcome,
    max(error_detail) as error_detail
from dunning.sent_history
where order_id = $order_id and attempted_at < $until
group by reminder_id, occurrence, attempt
order by 1, reminder_id, attempt

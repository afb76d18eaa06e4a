select series, first_edit_id, started_at, occurrences, last_sent_at, next_due_at, state
from dunning.order_series
where order_id = $order_id and started_at < $until
order by series

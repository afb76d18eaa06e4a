select attempted_at, occurrence, reminder_id, outcome, error_detail
from dunning.sent_history
where order_id = $order_id and attempted_at < $until and outcome <> 'attempting'
order by attempted_at, attempt

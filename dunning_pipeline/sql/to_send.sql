-- Reminders of a batch that Klaviyo neither accepted (in any batch) nor rejected or dropped (in this one). What was
-- tried before on the same day goes out with the body of that first attempt, so that Klaviyo records it once.
with tried as (
    select
        h.reminder_id,
        max(h.attempt) as attempts,
        bool_or(h.outcome = 'accepted') as accepted,
        bool_or(h.outcome in ('rejected', 'dropped') and h.batch_id = $batch_id) as finished,
        arg_min(r.body, h.attempted_at) filter (where r.as_of = b.as_of and h.outcome = 'attempting') as first_body
    from dunning.sent_history as h
    join dunning.batches as b on b.batch_id = $batch_id
    left join dunning.reminders as r on r.batch_id = h.batch_id and r.reminder_id = h.reminder_id
    group by h.reminder_id
)
select
    r.reminder_id, r.stream, r.batch_id, r.customer_id, r.carrying_invoice_id, r.order_id, r.workflow, r.action,
    r.occurrence, coalesce(t.first_body, r.body) as body, coalesce(t.attempts, 0) as attempts
from dunning.reminders as r
left join tried as t using (reminder_id)
where r.batch_id = $batch_id and not coalesce(t.accepted, false) and not coalesce(t.finished, false)
order by r.customer_id, r.reminder_id

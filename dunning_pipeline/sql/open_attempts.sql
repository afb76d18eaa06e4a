-- Attempts of a stream on a day that have no outcome, or an unknown one, of reminders that were not accepted, the first
-- one first; with the metric of their events and the time that these carry.
with attempts as (
    select
        reminder_id, attempt, any_value(batch_id) as batch_id, min(attempted_at) as attempted_at,
        bool_and(outcome in ('attempting', 'unknown')) as open, bool_or(outcome = 'accepted') as accepted
    from dunning.sent_history
    where stream = $stream and contact_on = $day
    group by reminder_id, attempt
),
doubtful as (
    select * from attempts where open and reminder_id not in (select reminder_id from attempts where accepted)
)
select
    r.reminder_id, r.stream, d.batch_id, r.customer_id, r.level, r.carrying_invoice_id, r.order_id, r.first_edit_id,
    r.workflow, r.action, r.occurrence, r.customer_key, r.invoice_key, r.metric, r.planned_at, d.attempt, d.attempted_at
from doubtful as d
join dunning.reminders as r using (batch_id, reminder_id)
order by d.reminder_id, d.attempt

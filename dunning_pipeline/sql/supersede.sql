-- Notes which reminders of older batches their batch will never send, because a newer live batch takes its place: those
-- without a final outcome (RULES 9.1). What may have been accepted stays unknown beside it (RULES 9.3).
insert into dunning.sent_history by name
with unsent as (
    select
        r.reminder_id, r.stream, r.batch_id, r.customer_id, r.level, r.carrying_invoice_id, r.order_id, r.first_edit_id,
        r.workflow, r.action, r.occurrence, r.customer_key, r.invoice_key
    from dunning.reminders as r
    join dunning.batches as b using (batch_id)
    where b.stream = $stream and b.live and b.state in ('planned', 'sending')
),
tried as (
    select
        u.batch_id, u.reminder_id, max(h.attempt) as attempts,
        bool_or(h.outcome = 'accepted' or h.outcome in ('rejected', 'dropped') and h.batch_id = u.batch_id) as settled
    from unsent as u join dunning.sent_history as h using (reminder_id)
    group by u.batch_id, u.reminder_id
)
select
    unsent.*, coalesce(t.attempts, 0) + 1 as attempt, 'superseded' as outcome,
    'batch ' || $by || ' took the place of its batch' as error_detail, $at as attempted_at, $today as contact_on
from unsent
left join tried as t using (batch_id, reminder_id)
where not coalesce(t.settled, false)

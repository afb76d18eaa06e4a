-- Reminders of a batch that Klaviyo neither accepted (in any batch) nor rejected or dropped (in this one). What may have
-- been accepted on the same day goes out with the body of its first open attempt, so that Klaviyo records it once.
-- Only those that lie between two places of the table, so that bodies can be read piece by piece.
with chosen as not materialized (
    select *, rowid as place from dunning.reminders where batch_id = $batch_id and rowid between $first and $last
),
attempts as (
    select
        h.reminder_id, h.attempt, any_value(h.batch_id) as batch_id, min(h.attempted_at) as attempted_at,
        bool_or(h.outcome = 'accepted') as accepted,
        bool_or(h.outcome in ('rejected', 'dropped')) as finished,
        bool_and(h.outcome in ('attempting', 'unknown')) as open
    from dunning.sent_history as h
    semi join chosen using (reminder_id)
    group by h.reminder_id, h.attempt
),
tried as (
    select
        a.reminder_id,
        max(a.attempt) as attempts,
        bool_or(a.accepted) as accepted,
        bool_or(a.finished and a.batch_id = $batch_id) as finished,
        arg_min(r.body, a.attempted_at) filter (where a.open and r.as_of = b.as_of) as open_body
    from attempts as a
    join dunning.batches as b on b.batch_id = $batch_id
    left join dunning.reminders as r on r.batch_id = a.batch_id and r.reminder_id = a.reminder_id
    group by a.reminder_id
)
select
    r.reminder_id, r.stream, r.batch_id, r.customer_id, r.level, r.carrying_invoice_id, r.order_id, r.first_edit_id,
    r.workflow, r.action, r.occurrence, r.customer_key, r.invoice_key, r.place, coalesce(t.open_body, r.body) as body,
    case when t.open_body <> r.body then r.body end as own_body,
    coalesce(t.attempts, 0) as attempts
from chosen as r
left join tried as t using (reminder_id)
where not coalesce(t.accepted, false) and not coalesce(t.finished, false)
order by r.customer_id, r.level, r.reminder_id

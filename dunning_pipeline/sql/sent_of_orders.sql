-- What was sent of each series (RULES 8.2, 9.3): its last event that was accepted; the last one of an earlier day of which
-- nobody knows, and of today; the last one that the allow list kept back under a policy.
with history as not materialized (
    select order_id, first_edit_id, occurrence, reminder_id, attempt, outcome, error_code, attempted_at, contact_on, batch_id
    from dunning.sent_history
    where stream = 'order' and first_edit_id is not null
),
doubtful_days as (
    -- On most days every attempt has its outcome: there the checksums of both cancel out.
    select contact_on
    from history
    where outcome in ('attempting', 'accepted', 'rejected', 'not_delivered')
    group by contact_on
    having bit_xor(hash(reminder_id, attempt)) <> 0
),
doubtful as (
    select
        order_id, first_edit_id,
        max(attempted_at) filter (contact_on < $today) as attempted_at,
        max(attempted_at) filter (contact_on >= $today) as attempted_today_at
    from history semi join doubtful_days using (contact_on)
    where outcome = 'attempting'
        and (reminder_id, attempt) not in (
            select (reminder_id, attempt) from history semi join doubtful_days using (contact_on)
            where outcome in ('accepted', 'rejected', 'not_delivered')
        )
    group by order_id, first_edit_id
),
held as (
    select order_id, first_edit_id, max(attempted_at) as attempted_at
    from history semi join (from dunning.batches where policy_hash = $policy_hash) using (batch_id)
    where outcome = 'dropped' and error_code = $not_listed
    group by order_id, first_edit_id
),
accepted as (
    select order_id, first_edit_id, max(occurrence) as occurrence, max(attempted_at) as attempted_at
    from history where outcome = 'accepted' group by order_id, first_edit_id
)
select
    o.order_key, first_edit_id, coalesce(accepted.occurrence, 0) as occurrence, accepted.attempted_at as accepted_at,
    doubtful.attempted_at as doubtful_at, doubtful.attempted_today_at as open_at, held.attempted_at as held_at
from accepted
full join doubtful using (order_id, first_edit_id)
full join held using (order_id, first_edit_id)
join source.order_keys as o using (order_id)

-- Reminders that were perhaps accepted on a day: an attempt has no outcome yet (RULES 9.3). As in certain_contacts.sql.
-- On most days every attempt has its outcome: there the checksums of both cancel out, and nothing is looked at closer.
with doubtful as (
    select contact_on
    from dunning.sent_history
    where stream = 'invoice' and contact_on <= $last
        and outcome in ('attempting', 'accepted', 'rejected', 'not_delivered')
    group by contact_on
    having bit_xor(hash(reminder_id, attempt)) <> 0
),
history as (
    select * from dunning.sent_history semi join doubtful using (contact_on) where stream = 'invoice'
),
open_attempts as (
    select distinct reminder_id, contact_on
    from (select reminder_id, attempt, contact_on from history where outcome = 'attempting')
    anti join (select * from history where outcome in ('accepted', 'rejected', 'not_delivered'))
    using (reminder_id, attempt, contact_on)
),
uncertain as (
    select customer_key, invoice_key, level, workflow, action, contact_on, reminder_id
    from history semi join open_attempts using (reminder_id, contact_on)
    group by all
    having not bool_or(outcome = 'accepted')
        and count_if(outcome = 'attempting') > count_if(outcome in ('accepted', 'rejected', 'not_delivered'))
)
select
    u.customer_key, coalesce(i.invoice_key, -2) as invoice_key, u.level::contact_level as level,
    try_cast(u.workflow as workflow_name) as workflow, try_cast(u.action as action_name) as action, u.contact_on,
    u.contact_on as known_on, u.reminder_id, 'unknown'::contact_kind as kind
from uncertain as u
semi join contacted_customers using (customer_key)
left join contacted_invoices as i using (invoice_key, customer_key)

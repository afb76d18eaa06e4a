-- Reminders whose latest outcome is a rejection by Klaviyo that nobody has lifted since (RULES 6.5), with the identifiers
-- and the policy they were made from.
with latest as (
    select reminder_id, max(contact_on) as rejected_on, max(attempted_at) as rejected_at,
        arg_max(outcome, (attempted_at, outcome <> 'attempting')) as outcome,
        arg_max(batch_id, (attempted_at, outcome <> 'attempting')) as batch_id
    from dunning.sent_history
    where stream = $stream and outcome not in ('superseded', 'dropped')
    group by reminder_id
),
retried as (select reminder_id, max(retried_at) as retried_at from dunning.retries group by reminder_id)
select
    latest.reminder_id, latest.rejected_on, batches.policy_hash,
    json_extract_string(reminders.body, '$.attributes.profile.data.attributes.email') as email,
    json_extract_string(reminders.body, '$.attributes.profile.data.attributes.phone_number') as phone,
    json_extract_string(reminders.body, '$.attributes.profile.data.attributes.external_id') as external_id
from latest
join dunning.reminders as reminders using (batch_id, reminder_id)
join dunning.batches as batches using (batch_id)
left join retried using (reminder_id)
where latest.outcome = 'rejected' and (retried.retried_at is null or retried.retried_at < latest.rejected_at)

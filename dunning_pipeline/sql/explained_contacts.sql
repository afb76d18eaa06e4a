-- Contacts with a customer as far as a day knows them, the newest first: reminders one row a day with what came of it
-- (RULES 9.3), and what was recorded by hand. A rejection is lifted by a later `dunning retry`.
with per_day as (
    select
        reminder_id, level, carrying_invoice_id as invoice_id, workflow, action, contact_on,
        bool_or(outcome = 'accepted') as accepted,
        count_if(outcome = 'attempting') > count_if(outcome in ('accepted', 'rejected', 'not_delivered')) as uncertain,
        bool_or(outcome = 'rejected') as rejected,
        arg_max(error_detail, attempted_at) filter (where outcome = 'rejected') as error_detail,
        max(attempted_at) as attempted_at
    from dunning.sent_history
    where stream = 'invoice' and customer_id = $customer_id and contact_on <= $day
        and outcome not in ('superseded', 'dropped')
    group by all
),
retried as (select reminder_id, max(retried_at) as retried_at from dunning.retries group by reminder_id),
reminded as (
    select
        h.contact_on, h.attempted_at, h.level, h.invoice_id, h.workflow, h.action, h.reminder_id, h.error_detail,
        coalesce(r.retried_at >= h.attempted_at, false) as lifted,
        case
            when h.accepted then 'accepted'
            when h.uncertain then 'unknown'
            when h.rejected then 'rejected'
            else 'not_delivered'
        end as kind
    from per_day as h
    left join retried as r using (reminder_id)
),
recorded as (
    select contacted_on as contact_on, invoice_id, workflow, action, channel, false as lifted, 'recorded' as kind
    from source.contacts
    where customer_id = $customer_id and contacted_on <= $day and recorded_on <= $day
),
contacts as (select * from reminded union all by name select * from recorded)
select
    c.contact_on, c.kind, c.level, c.invoice_id, i.number, c.workflow, c.action, c.channel, c.reminder_id,
    c.error_detail, c.lifted
from contacts as c
left join source.invoices as i using (invoice_id)
order by c.contact_on desc, c.attempted_at desc, c.action, c.reminder_id

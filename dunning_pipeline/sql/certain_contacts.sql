-- Contacts of the customers in `contacted_customers` that can matter from the first day of a window on: accepted reminders
-- about their invoices in `contacted_invoices` and those of the window, what was recorded by hand, and of all other
-- reminders the latest of each customer. An invoice_key of -1 stands for no invoice, -2 for one that is none of those.
with accepted as not materialized (
    select reminder_id, customer_id, level, carrying_invoice_id as invoice_id, workflow, action, contact_on
    from dunning.sent_history
    where stream = 'invoice' and outcome = 'accepted' and contact_on <= $last
),
-- A reminder may have been accepted twice on one day; it is one contact, here and within the window. Of the id a hash is
-- enough to tell reminders apart.
before as (
    select * exclude (reminder), null as reminder_id
    from (
        select distinct
            customer_key, invoice_key, level::contact_level as level, try_cast(workflow as workflow_name) as workflow,
            try_cast(action as action_name) as action, contact_on, contact_on as known_on,
            'accepted'::contact_kind as kind, hash(reminder_id) as reminder
        from accepted join contacted_invoices using (invoice_id, customer_id)
        where contact_on < $first
    )
),
latest as (
    select
        customer_key, -2 as invoice_key, 'customer'::contact_level as level, contact_on, contact_on as known_on,
        'accepted'::contact_kind as kind
    from (
        select customer_id, max(contact_on) as contact_on
        from accepted
        where contact_on < $first and level = 'customer'
        group by customer_id
    )
    join contacted_customers using (customer_id)
),
within as (
    select distinct
        c.customer_key, coalesce(i.invoice_key, -2) as invoice_key, a.level::contact_level as level,
        try_cast(a.workflow as workflow_name) as workflow, try_cast(a.action as action_name) as action, a.contact_on,
        a.contact_on as known_on, a.reminder_id, 'accepted'::contact_kind as kind
    from accepted as a
    join contacted_customers as c using (customer_id)
    left join contacted_invoices as i using (invoice_id, customer_id)
    where a.contact_on >= $first
),
recorded as (
    select
        c.customer_key, case when r.invoice_id is null then -1 else coalesce(i.invoice_key, -2) end as invoice_key,
        null::contact_level as level, try_cast(r.workflow as workflow_name) as workflow,
        try_cast(r.action as action_name) as action, r.contacted_on as contact_on, r.recorded_on as known_on,
        null as reminder_id, 'recorded'::contact_kind as kind
    from source.contacts as r
    join contacted_customers as c using (customer_id)
    left join contacted_invoices as i using (invoice_id, customer_id)
    where r.contacted_on <= $last
)
from before
union all by name
from latest
union all by name
from within
union all by name
from recorded

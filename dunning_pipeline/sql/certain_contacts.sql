-- Contacts of the customers in `contacted_customers` that can matter from the first day of a window on: accepted reminders
-- about their invoices in `contacted_invoices` and those of the window, what was recorded by hand, and of all other
-- reminders the latest of each customer. An invoice_key of -1 stands for no invoice, -2 for one that is none of those.
with accepted as not materialized (
    select customer_key, invoice_key, level, workflow, action, occurrence, contact_on, reminder_id
    from dunning.sent_history
    where stream = 'invoice' and outcome = 'accepted' and contact_on <= $last
),
-- A reminder may have been accepted twice on one day; it is one contact, here and within the window. Its id is made of the
-- columns that tell it apart here (RULES 7.2).
before as (
    select * exclude (occurrence), null as reminder_id
    from (
        select distinct
            customer_key, invoice_key, level::contact_level as level, try_cast(workflow as workflow_name) as workflow,
            try_cast(action as action_name) as action, contact_on, contact_on as known_on,
            'accepted'::contact_kind as kind, occurrence
        from accepted semi join contacted_invoices using (invoice_key, customer_key)
        where contact_on < $first
    )
),
latest as (
    select
        customer_key, -2 as invoice_key, 'customer'::contact_level as level, max(contact_on) as contact_on,
        max(contact_on) as known_on, 'accepted'::contact_kind as kind
    from accepted semi join contacted_customers using (customer_key)
    where contact_on < $first and level = 'customer'
    group by customer_key
),
within as (
    select distinct
        a.customer_key, coalesce(i.invoice_key, -2) as invoice_key, a.level::contact_level as level,
        try_cast(a.workflow as workflow_name) as workflow, try_cast(a.action as action_name) as action, a.contact_on,
        a.contact_on as known_on, a.reminder_id, 'accepted'::contact_kind as kind
    from accepted as a
    semi join contacted_customers using (customer_key)
    left join contacted_invoices as i using (invoice_key, customer_key)
    where a.contact_on >= $first
),
recorded as (
    select
        r.customer_key, case when r.invoice_key is null then -1 else coalesce(i.invoice_key, -2) end as invoice_key,
        null::contact_level as level, try_cast(r.workflow as workflow_name) as workflow,
        try_cast(r.action as action_name) as action, r.contacted_on as contact_on, r.recorded_on as known_on,
        null as reminder_id, 'recorded'::contact_kind as kind
    from source.contacts as r
    semi join contacted_customers using (customer_key)
    left join contacted_invoices as i using (invoice_key, customer_key)
    where r.contacted_on <= $last
)
from before
union all by name
from latest
union all by name
from within
union all by name
from recorded

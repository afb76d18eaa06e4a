-- Every contact of the invoice side: what Klaviyo accepted or may have accepted, one row per reminder and day,
-- and what was recorded by hand. An `attempting` without an outcome is unknown (RULES 9.3). An invoice_key of -1: about no
-- invoice; -2: about one that is not this customer's.
with per_day as (
    select
        reminder_id, customer_id, level, carrying_invoice_id, workflow, action, contact_on,
        bool_or(outcome = 'accepted') as accepted,
        count_if(outcome = 'attempting') > count_if(outcome in ('accepted', 'rejected', 'not_delivered')) as uncertain
    from dunning.sent_history
    where stream = 'invoice' and outcome not in ('superseded', 'dropped')
    group by all
),
reminded as (
    select
        customer_id, level, carrying_invoice_id as invoice_id, workflow, action, contact_on, contact_on as known_on,
        reminder_id,
        case when accepted then 'accepted' else 'unknown' end as kind
    from per_day
    where accepted or uncertain
),
recorded as (
    select
        customer_id, invoice_id, workflow, action, contacted_on as contact_on, recorded_on as known_on,
        null as level, null as reminder_id, 'recorded' as kind
    from source.contacts
)
select
    c.customer_key, case when r.invoice_id is null then -1 else coalesce(i.invoice_key, -2) end as invoice_key, r.level, r.workflow, r.action, r.contact_on, r.known_on,
    r.reminder_id, r.kind
from (select * from reminded union all by name select * from recorded) as r
join source.customer_keys as c using (customer_id)
left join source.invoices as i on i.invoice_id = r.invoice_id and i.customer_id = r.customer_id
where r.contact_on <= $last

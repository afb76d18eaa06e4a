-- The daily decision as one query, for one currency and one workflow (RULES 1.1 to 1.3, 2.1, 4.1 to 4.3, 5.1 to 5.3).
-- {invoice} and {customer} are the columns to join by: ids, or the integer keys that a warehouse may have for them.
-- `ladder` (position, action, day) and `working_days` (day, next_on, last_before) are small tables made beforehand.
with paid as (
    select {invoice}, sum(amount_minor) as paid_minor
    from source.payments
    where paid_on <= $as_of and recorded_on <= $as_of and {invoice} is not null
    group by {invoice}
),
unpaid as (
    select
        i.{customer}, i.{invoice}, i.customer_id, i.invoice_id, i.total_minor, coalesce(i.due_on, i.issued_on) as due_on
    from source.invoices as i
    left join paid as p on p.{invoice} = i.{invoice}
    where i.recorded_on <= $as_of
        and i.status <> 'draft'
        and not (i.status = 'void' and i.voided_on is null)
        and not (i.status = 'written_off' and i.written_off_on is null)
        and (i.voided_on is null or i.voided_on > $as_of)
        and (i.written_off_on is null or i.written_off_on > $as_of)
        and (i.missing_since is null or i.missing_since > $as_of)
        and (i.disputed_on is null or i.disputed_on > $as_of or i.dispute_resolved_on <= $as_of)
        and i.total_minor > coalesce(p.paid_minor, 0)
),
carrying as (
    select {customer}, {invoice}, customer_id, invoice_id, due_on
    from unpaid
    qualify row_number() over (partition by {customer} order by due_on, total_minor desc, invoice_id) = 1
),
contact as (
    select customer_id, carrying_invoice_id as invoice_id, workflow, action, contact_on
    from dunning.sent_history
    where stream = 'invoice' and outcome = 'accepted' and contact_on < $as_of
    union all
    select customer_id, invoice_id, workflow, action, contacted_on
    from source.contacts
    where contacted_on <= $as_of and recorded_on <= $as_of
),
last_contact as (
    select customer_id, max(contact_on) as contact_on from contact group by customer_id
),
executed as (
    select c.customer_id, c.invoice_id, max(l.position) as position
    from contact as c
    join ladder as l on l.action = c.action
    where c.workflow = $workflow
    group by c.customer_id, c.invoice_id
),
position as (
    select
        carrying.customer_id, carrying.invoice_id, carrying.due_on, last_contact.contact_on as last_contact_on,
        greatest(
            coalesce(executed.position, 0) + 1,
            case when carrying.due_on <= $as_of then (select count(*) from ladder where day < 0) + 1 else 1 end
        ) as position
    from carrying
    left join executed using (customer_id, invoice_id)
    left join last_contact using (customer_id)
),
triggered as (
    select
        p.customer_id, p.invoice_id, p.last_contact_on, l.action, l.position,
        case when l.day < 0 and t.next_on >= p.due_on then t.last_before else t.day end as trigger_on,
        coalesce(p.last_contact_on + case when p.last_contact_on = $as_of then greatest($delay, 1) else $delay end, $as_of)
            as allowed_on
    from position as p
    left join ladder as l using (position)
    left join working_days as t on t.day = p.due_on + l.day
)
select
    t.customer_id, t.invoice_id as carrying_invoice_id, t.action, t.position as action_position, t.trigger_on,
    t.last_contact_on, case when t.trigger_on is not null then due.next_on end as next_due_on,
    case
        when t.position is null then 'workflow_completed'
        when t.trigger_on > $as_of then 'waiting_for_trigger'
        when t.allowed_on > $as_of then 'minimum_contact_delay'
        when due.next_on > $as_of then 'non_working_day'
        else 'remind'
    end as outcome
from triggered as t
left join working_days as due on due.day = greatest(coalesce(t.trigger_on, $as_of), t.allowed_on, $as_of)

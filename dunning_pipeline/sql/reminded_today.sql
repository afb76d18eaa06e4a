-- Reminders of a stream to the customers of those that are about to leave, or about their invoices, that were accepted
-- on a day, or may have been. Orders are not limited to one a day (RULES 5.4).
with attempts as (
    select
        customer_id, level, carrying_invoice_id, reminder_id, attempt,
        bool_or(outcome = 'accepted') as accepted,
        bool_and(outcome in ('attempting', 'unknown')) as open
    from dunning.sent_history
    where stream = $stream and stream = 'invoice' and contact_on = $day
        and (
            customer_id in (select customer_id from leaving)
            or carrying_invoice_id in (select carrying_invoice_id from leaving)
        )
    group by customer_id, level, carrying_invoice_id, reminder_id, attempt
)
select distinct customer_id, level, carrying_invoice_id, reminder_id
from attempts
where accepted or open

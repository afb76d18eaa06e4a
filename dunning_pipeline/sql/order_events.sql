-- Events about orders that customers got, or may have got, by the last day of a window (RULES 5.4): accepted ones, and
-- attempts without an outcome (RULES 9.3). What was rejected, not delivered or dropped reached nobody.
with attempts as (
    select
        reminder_id, attempt, customer_id, contact_on, bool_or(outcome = 'accepted') as accepted,
        bool_and(outcome in ('attempting', 'unknown')) as open
    from dunning.sent_history
    where stream = 'order' and contact_on <= $last
    group by reminder_id, attempt, customer_id, contact_on
)
select distinct k.customer_key, a.contact_on
from attempts as a
join source.customer_keys as k using (customer_id)
where a.accepted or a.open

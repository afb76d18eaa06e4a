-- Writes the reminders of a replay, which know customers and invoices by their keys in `replayed`.
insert into dunning.replay_reminders by name
select
    $replay_id as replay_id, r.remind_on, c.customer_id, r.level, i.invoice_id as carrying_invoice_id, r.workflow,
    r.action, r.action_position, r.occurrence
from replayed as r
join source.customer_keys as c using (customer_key)
join source.invoice_keys as i using (invoice_key)

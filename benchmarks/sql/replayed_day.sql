-- Adds the reminders of a day, as the query of the daily decision finds them, to the history that the next day reads.
insert into dunning.sent_history by name
select
    customer_id, carrying_invoice_id, action, $workflow as workflow, 1 as occurrence, 'invoice' as stream,
    'customer' as level, 'accepted' as outcome, $as_of as contact_on
from ({query})
where outcome = 'remind'

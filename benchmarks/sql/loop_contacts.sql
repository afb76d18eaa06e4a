-- `position` is the place of the action in the ladder, from 1. Reminders and what was recorded by hand, all before today.
select customer_id, carrying_invoice_id, list_position($ladder, action), contact_on::varchar
from dunning.sent_history
where outcome = 'accepted'
union all
select customer_id, invoice_id, list_position($ladder, action), contacted_on::varchar
from source.contacts

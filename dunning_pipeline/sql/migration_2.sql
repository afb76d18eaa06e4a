-- Version 1 knew reminders to customers only, and days derived by it lack what decisions are made from since.
update dunning.reminders set level = 'customer' where stream = 'invoice' and level is null;
update dunning.sent_history set level = 'customer' where stream = 'invoice' and level is null;
update dunning.open_invoices set level = 'customer' where level is null;
update dunning.carrying_invoices as c
set issued_on = i.issued_on
from source.invoices as i
where i.invoice_key = c.invoice_key and c.issued_on is null;

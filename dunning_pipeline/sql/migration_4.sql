-- Contacts are joined on integers since version 4. Customers and invoices that only the history knows get keys here, too.
insert into source.customer_keys by name
select customer_id, (select coalesce(max(customer_key), 0) from source.customer_keys) + row_number() over () as customer_key
from (
    select customer_id from dunning.reminders where stream = 'invoice' and customer_id is not null
    union
    select customer_id from dunning.sent_history where stream = 'invoice' and customer_id is not null
)
anti join source.customer_keys using (customer_id);
insert into source.invoice_keys by name
select invoice_id, (select coalesce(max(invoice_key), 0) from source.invoice_keys) + row_number() over () as invoice_key
from (
    select carrying_invoice_id as invoice_id from dunning.reminders where carrying_invoice_id is not null
    union
    select carrying_invoice_id from dunning.sent_history where carrying_invoice_id is not null
)
anti join source.invoice_keys using (invoice_id);
update dunning.reminders as r
set customer_key = k.customer_key
from source.customer_keys as k
where k.customer_id = r.customer_id and r.stream = 'invoice';
update dunning.reminders as r
set invoice_key = k.invoice_key
from source.invoice_keys as k
where k.invoice_id = r.carrying_invoice_id;
update dunning.sent_history as h
set customer_key = k.customer_key
from source.customer_keys as k
where k.customer_id = h.customer_id and h.stream = 'invoice';
update dunning.sent_history as h
set invoice_key = k.invoice_key
from source.invoice_keys as k
where k.invoice_id = h.carrying_invoice_id;

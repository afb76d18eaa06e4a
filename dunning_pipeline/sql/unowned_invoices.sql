-- Rows of a table that name an invoice which their customer does not have: they do nothing to any invoice.
-- `named` holds their id, customer_id and invoice_id.
select count(distinct id) as n, array_to_string(min(distinct id, 5), ', ') as ids
from named
anti join source.invoices using (invoice_id, customer_id)
where invoice_id is not null

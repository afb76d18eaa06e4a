-- The ids of what carries and of its customers.
select customer_key, invoice_key, invoice_id, customer_id
from contacted_invoices
join source.invoice_keys using (invoice_key)
join source.customer_keys using (customer_key)

-- What people call some invoices, and where these can be paid; `wanted_invoices` holds their keys.
select invoice_key, invoice_id, coalesce(number, invoice_id) as number, pay_url
from source.invoices
semi join wanted_invoices using (invoice_key)

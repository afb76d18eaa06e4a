-- What smart rules may ask of an invoice beyond what is derived; `open_keys` holds the invoices' keys.
select i.invoice_key, i.status, i.pay_url
from source.invoices as i
semi join open_keys using (invoice_key)

-- What smart rules may ask of an invoice beyond what is derived; `open_keys` holds the invoices' keys. The invoice's id
-- stands in for a number that it does not have, as it does wherever the invoice is named.
select i.invoice_key, i.invoice_id, coalesce(i.number, i.invoice_id) as number, i.status, i.pay_url
from source.invoices as i
semi join open_keys using (invoice_key)

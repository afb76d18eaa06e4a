-- Ids and numbers of the invoices that turned out to be open: `open_keys` holds their keys.
select i.invoice_key, i.customer_id, i.invoice_id, coalesce(i.number, i.invoice_id) as number
from source.invoices as i
semi join open_keys using (invoice_key)

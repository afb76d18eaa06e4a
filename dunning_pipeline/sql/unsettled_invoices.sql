-- Invoices that can still matter, without the columns that only texts need: `unsettled` holds their keys.
select
    customer_key, invoice_key, issued_on, due_on, total_minor, recorded_on, voided_on, written_off_on,
    disputed_on, dispute_resolved_on, missing_since,
    currency::currency_code as currency,
    status::invoice_status as status
from source.invoices
semi join unsettled using (invoice_key)

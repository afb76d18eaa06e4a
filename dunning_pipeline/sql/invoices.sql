-- Invoices known by the last day of a window, without the columns that only texts need. Rows of a source that the
-- policy no longer names are left out: nobody would learn that they were paid.
select
    customer_key, invoice_key, issued_on, due_on, total_minor, recorded_on, voided_on, written_off_on,
    disputed_on, dispute_resolved_on, missing_since,
    currency::currency_code as currency,
    status::invoice_status as status
from source.invoices
where recorded_on <= $last and list_contains($sources, source)

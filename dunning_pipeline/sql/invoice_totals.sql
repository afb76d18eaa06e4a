-- Totals of the invoices known by the last day of a window. Rows of a source that the policy no longer names are left out:
-- nobody would learn that they were paid.
select invoice_key, total_minor, currency
from source.invoices
where recorded_on <= $last and list_contains($sources, source)

select
    invoice_id, customer_id, issued_on::varchar, due_on::varchar, total_minor, status, recorded_on::varchar,
    voided_on::varchar, written_off_on::varchar, disputed_on::varchar, dispute_resolved_on::varchar,
    missing_since::varchar
from source.invoices

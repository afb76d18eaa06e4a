create table customers (customer_id text primary key);
create table invoices (
    invoice_id text primary key, customer_id text, issued_on text, due_on text, total_minor integer, status text,
    recorded_on text, voided_on text, written_off_on text, disputed_on text, dispute_resolved_on text, missing_since text
);
create table payments (invoice_id text, amount_minor integer, paid_on text, recorded_on text);
create table contacts (customer_id text, invoice_id text, position integer, contact_on text);

-- Invoices as a billing system in PostgreSQL has them.
create table invoices as
select
    'F' || lpad(i::text, 9, '0') as invoice_id,
    'C' || lpad((i % 100000)::text, 8, '0') as customer_id,
    'INV-' || i as number,
    date '2023-01-01' + (i % 1000)::int as issued_on,
    date '2023-01-31' + (i % 1000)::int as due_on,
    'EUR' as currency,
    ((100 + i % 100000) / 100.0)::numeric(12, 2) as total,
    'open' as status,
    timestamptz '2025-01-01' + i * interval '1 second' as updated_at
from generate_series(1, :invoices) as i

select
    getvariable('today') as as_of, printf('C%09d', customer_key) as customer_id, printf('I%09d', invoice_key) as invoice_id,
    printf('2026-%d', invoice_key) as number, issued_on, due_on, currency, total_minor, open_minor,
    greatest(getvariable('today') - due_on, 0) as days_overdue, 'customer' as level, false as paused,
    false as broken_promise, customer_key, invoice_key, 'benchmark' as run_id
from invoices

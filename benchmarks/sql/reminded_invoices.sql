select
    printf('I%09d', invoice_key) as invoice_id, printf('C%09d', customer_key) as customer_id,
    printf('2026-%d', invoice_key) as number, issued_on, due_on, currency, total_minor, 'open' as status,
    issued_on as recorded_on, printf('https://pay.quay.test/invoices/I%09d', invoice_key) as pay_url,
    'benchmark' as source, customer_key, invoice_key
from invoices

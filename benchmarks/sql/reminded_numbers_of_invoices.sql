-- Three invoices a customer, the third of them the oldest, and the second of one customer in twenty in dollars.
select
    customer_key, 3 * customer_key - 2 + nth as invoice_key,
    getvariable('today') - (40 + 9 * nth + customer_key % 5)::integer as issued_on,
    getvariable('today') - (8 * nth + customer_key % 5)::integer as due_on,
    case when nth = 1 and customer_key % 20 = 0 then 'USD' else 'EUR' end as currency,
    (100 + hash(invoice_key) % 5000000)::bigint as total_minor,
    case when hash(invoice_key) % 7 = 0 then total_minor // 3 + 1 else total_minor end as open_minor
from customers, (values (0), (1), (2)) as invoices(nth)

-- What was applied to invoices, and a credit that belongs to none for one customer in a hundred.
with applied as (
    select
        printf('P%09d', row_number() over ()) as payment_id, customer_key, invoice_key, amount_minor,
        case when amount_minor < 0 then 'chargeback' else 'payment' end as kind, paid_on, recorded_on
    from numbers
),
unapplied as (
    select
        printf('U%09d', customer_key) as payment_id, customer_key, null as invoice_key, 1000 + customer_key % 9000 as amount_minor,
        'payment' as kind, getvariable('today') - 9 as paid_on, getvariable('today') - 9 as recorded_on
    from source.customer_keys
    where customer_key % 100 = 0
)
select
    payment_id, printf('C%09d', customer_key) as customer_id,
    case when invoice_key is not null then printf('I%09d', invoice_key) end as invoice_id,
    kind, 'EUR' as currency, amount_minor, paid_on, recorded_on, 'benchmark' as source, customer_key, invoice_key
from (select * from applied union all by name select * from unapplied)

select
    printf('C%09d', customer_key) as customer_id, printf('Customer %d', customer_key) as name,
    printf('billing@c%09d.test', customer_key) as email, 'FR' as country, 'EUR' as currency,
    'benchmark' as source, customer_key
from numbers

select
    printf('C%09d', customer_key) as customer_id, printf('Customer %d & Söhne', customer_key) as name,
    printf('billing@c%09d.test', customer_key) as email, ['en', 'de', 'fr', null][customer_key % 4 + 1] as language,
    'benchmark' as source, customer_key
from customers

select
    order_id, name, printf('C%09d', order_key % 70000) as customer_id, printf('Ada Albrecht %d', order_key) as customer_name,
    printf('person%d@shop.dev', order_key) as email,
    case order_key % 3 when 0 then 'de' when 1 then 'fr' else 'en' end as language,
    'EUR' as currency, paid_minor + outstanding_minor as total_minor, outstanding_minor, paid_minor as received_minor,
    'partially_paid' as financial_status, 'unfulfilled' as fulfillment_status, created_at,
    printf('https://shop.dev/pay/%d', order_key) as pay_url, printf('https://shop.dev/orders/%d', order_key) as status_url,
    edited_at as updated_at, 'shop' as source, order_key
from numbers

select
    printf('SalesAgreement/%012d', order_key) as edit_id, order_id, edited_at, 'customer_portal' as edited_by,
    'Cleverific' as app_title, 'order_edit' as kind, edited_at + interval 20 seconds as seen_at, 'shop' as source, order_key
from numbers

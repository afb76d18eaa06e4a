-- Each order was seen after it was placed, and after it was edited.
select
    order_id, created_at + interval 20 seconds as observed_at, 'EUR' as currency, 0 as outstanding_minor,
    'paid' as financial_status, 'unfulfilled' as fulfillment_status, 'shop' as source, order_key, 'placed' as run_id
from numbers
union all by name
select
    order_id, edited_at + interval 20 seconds as observed_at, 'EUR' as currency, outstanding_minor,
    'partially_paid' as financial_status, 'unfulfilled' as fulfillment_status, 'shop' as source, order_key, 'edited' as run_id
from numbers

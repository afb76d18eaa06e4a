-- What events tell of some orders beside what decides about them.
select order_key, customer_id, customer_name, language, total_minor, received_minor, pay_url, status_url
from source.orders semi join wanted_orders using (order_key)

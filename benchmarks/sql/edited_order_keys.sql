select order_id, order_key from numbers

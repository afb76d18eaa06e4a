select customer_id from source.customers

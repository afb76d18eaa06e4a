select printf('C%09d', customer_key) as customer_id, customer_key from customers

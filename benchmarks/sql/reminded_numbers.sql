select range as customer_key from range(1, {customers} + 1)

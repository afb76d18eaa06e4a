select printf('I%09d', invoice_key) as invoice_id, invoice_key from invoices

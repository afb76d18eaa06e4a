create index invoices_of_customer on invoices (customer_id);
create index payments_of_invoice on payments (invoice_id);
create index contacts_of_customer on contacts (customer_id);
analyze;

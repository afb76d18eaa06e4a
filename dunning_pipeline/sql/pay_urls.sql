-- Where the open invoices of some customers in a window can be paid.
select invoice_key, pay_url
from source.invoices
where invoice_key in (
    select invoice_key
    from dunning.open_invoices
    where as_of between $first and $last and customer_key between $first_key and $last_key
)

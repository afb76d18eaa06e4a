-- Customers with unpaid invoices in currencies without a rate, on some days (RULES 3.2).
select
    count(distinct customer_id) as n,
    array_to_string(min(distinct customer_id, 5), ', ') as ids,
    array_to_string(list_sort(list(distinct currency)), ', ') as currencies
from dunning.open_invoices
where as_of between $first and $last and not list_contains($rated, currency)

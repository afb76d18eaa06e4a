select
    getvariable('today') as as_of, printf('C%09d', customer_key) as customer_id, currency, sum(open_minor)::bigint as net_minor,
    sum(open_minor)::bigint as unpaid_minor, true as net_positive, true as chaseable, false as unclear, customer_key,
    'benchmark' as run_id
from invoices
group by customer_key, currency
order by customer_key, currency

-- What is owed without a decision, or has more than one, on the days of a window: customers, and invoices of their own
-- workflow. An invoice_key of -1 stands for the customer level. `owing` and `decided` count all there are.
with owing as (
    select distinct as_of, customer_key, case when level = 'invoice' then invoice_key else -1 end as invoice_key
    from dunning.open_invoices
    where as_of between $first and $last
    union
    select as_of, customer_key, -1
    from dunning.balances
    where unclear and as_of between $first and $last
),
decided as (
    select
        as_of, customer_key, case when level = 'invoice' then invoice_key else -1 end as invoice_key, count(*) as n
    from dunning.decisions
    where as_of between $first and $last
    group by all
),
wrong as (
    select customer_key, o.customer_key is null as without_debt, coalesce(d.n, 0) as decisions
    from owing as o
    full join decided as d using (as_of, customer_key, invoice_key)
    where o.customer_key is null or d.n is distinct from 1
    limit 100
)
select k.customer_id, wrong.without_debt, wrong.decisions
from wrong
left join source.customer_keys as k using (customer_key)

-- What is owed without a decision, or has more than one, on the days of a window: customers, and invoices of their own
-- workflow. `owing` and `decided` count all there are.
with owing as (
    select distinct as_of, customer_id, level, case when level = 'invoice' then invoice_id else '' end as invoice_id
    from dunning.open_invoices
    where as_of between $first and $last
    union
    select as_of, customer_id, 'customer', ''
    from dunning.balances
    where unclear and as_of between $first and $last
),
decided as (
    select
        as_of, customer_id, level, case when level = 'invoice' then carrying_invoice_id else '' end as invoice_id,
        count(*) as n
    from dunning.decisions
    where as_of between $first and $last
    group by all
)
select
    coalesce(o.customer_id, d.customer_id) as customer_id,
    o.customer_id is null as without_debt,
    coalesce(d.n, 0) as decisions
from owing as o
full join decided as d using (as_of, customer_id, level, invoice_id)
where o.customer_id is null or d.n is distinct from 1
limit 100

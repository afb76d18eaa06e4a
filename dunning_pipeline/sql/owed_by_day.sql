-- The number of owing customers and the open balance per currency, in minor units, of a day and of the last derived days
-- before it.
with days as (
    select distinct as_of from dunning.balances where as_of <= $day order by as_of desc limit 1 + $days
)
select as_of, 'customers' as figure, count(distinct customer_key) filter (where not unclear)::double as value
from dunning.balances semi join days using (as_of)
group by as_of
union all
select as_of, 'open balance in ' || currency || ' (minor units)', sum(unpaid_minor)::double
from dunning.balances semi join days using (as_of)
group by as_of, currency

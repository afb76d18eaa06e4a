-- The customers with decisions in a window in ranges of keys, at most $most a range; one range of nobody where there are
-- none.
with decided as (
    select customer_key, count(*) as decisions
    from dunning.decisions
    where as_of between $first and $last
    group by customer_key
),
numbered as (select *, (row_number() over (order by customer_key) - 1) // $most as range from decided)
select
    coalesce(min(customer_key), 0) as first_key, coalesce(max(customer_key), 0) as last_key,
    coalesce(sum(decisions), 0)::bigint as decisions
from (values (0)) as always(zero)
left join numbered on true
group by range
order by first_key

-- How many rows of the newest pull were rejected, or left out because their mapping says so, by source and table, with
-- one of the reasons.
select
    source, "table", count(*) as n, min(regexp_replace(reason, '^left out: ', '')) as reason,
    case when reason like 'left out: %' then 'left out' else 'rejected' end as what
from source.rejected_rows
group by source, "table", what
order by source, "table", what

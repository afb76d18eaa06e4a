-- How many rows of the newest pull were rejected, by source and table, with one of the reasons.
select source, "table", count(*) as n, min(reason) as reason
from source.rejected_rows
group by source, "table"
order by source, "table"

-- The latest days before a day on which a stream sent something, newest first, with the size of the largest batch and the
-- calendar days since the one before it.
with sent as (
    select as_of, max(size) as size
    from dunning.batches
    semi join (select batch_id from dunning.sent_history where outcome = 'accepted') using (batch_id)
    where stream = $stream and live and as_of < $as_of
    group by as_of
)
select as_of, size, coalesce(date_diff('day', lag(as_of) over (order by as_of), as_of), 1) as days
from sent
order by as_of desc
limit 10

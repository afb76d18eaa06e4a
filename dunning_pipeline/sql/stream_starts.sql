-- When a stream was first run, dry and live. What was sent before the warehouse was made tells of an earlier live start.
with starts as (
    select live, started_at from dunning.stream_starts where stream = $stream
    union all
    select true, min(attempted_at) from dunning.sent_history where stream = $stream
)
select live, min(started_at) as started_at from starts where started_at is not null group by live

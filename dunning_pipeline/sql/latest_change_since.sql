-- The latest change to what a stream is decided from, made by others than the run of a batch since that run's first pull;
-- 0 without one. A run that pulled nothing may have missed any change.
with changes as (
    select number, run_id from dunning.changes where list_contains($of_orders, cause) = ($stream = 'order')
)
select coalesce(max(number), 0) as number
from changes
where run_id is distinct from $batch_id
    and number > (select coalesce(min(number), 0) from changes where run_id = $batch_id)

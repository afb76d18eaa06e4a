-- The latest change made by others than the run of a batch since that run's first pull; 0 without one. A run that
-- pulled nothing may have missed any change.
select coalesce(max(number), 0) as number
from dunning.changes
where run_id is distinct from $batch_id
    and number > (select coalesce(min(number), 0) from dunning.changes where run_id = $batch_id)

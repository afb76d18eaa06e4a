-- Series that are new, or not what they were.
create or replace temp table changed_series as
select new.*
from decided_series as new
anti join (
    select
        order_key, series, first_edit_id, started_at, outstanding_minor, currency, last_sent_at, occurrences, next_due_at,
        state
    from dunning.order_series
) as old on old.order_key = new.order_key and old.series = new.series and old.first_edit_id = new.first_edit_id
    and old.started_at = new.started_at and old.outstanding_minor = new.outstanding_minor
    and old.currency = new.currency and old.last_sent_at is not distinct from new.last_sent_at
    and old.occurrences = new.occurrences and old.next_due_at is not distinct from new.next_due_at
    and old.state = new.state

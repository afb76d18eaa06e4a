-- Pauses known by the last day of a window; -1 stands for "no customer" and "no invoice". Ending a pause by hand
-- appends a row with its id that ends, and is known, on that day: the earliest end holds, and no earlier day changes.
select
    pause_id, source, scope, coalesce(customer_key, -1) as customer_key, coalesce(invoice_key, -1) as invoice_key,
    paused_from, min(paused_until) as paused_until, min(recorded_on) as recorded_on
from source.pauses
where recorded_on <= $last
group by all

-- Pauses known by the last day of a window; -1 stands for "no customer" and "no invoice".
select
    scope, coalesce(customer_key, -1) as customer_key, coalesce(invoice_key, -1) as invoice_key,
    paused_from, paused_until, recorded_on
from source.pauses
where recorded_on <= $last

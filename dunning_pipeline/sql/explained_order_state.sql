select
    o.order_id, o.name, o.source, o.currency, o.outstanding_minor, o.total_minor, o.missing_since,
    coalesce(w.newest_at, o.updated_at) as at
from source.orders as o
left join source.watermarks as w on w.source = o.source and w."table" = 'orders'
where o.order_id = $order_id and $until::timestamptz is not null

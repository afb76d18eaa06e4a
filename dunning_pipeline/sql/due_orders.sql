-- Orders of a source about which an event goes if nothing has changed.
select o.order_id
from dunning.order_series as s
join source.orders as o using (order_id)
where o.source = $source and s.state = 'open' and s.next_due_at <= $now and o.missing_since is null
order by o.order_id

-- Events about orders that customers got, or may have got, by the last day of a window (RULES 5.4).
select distinct k.customer_key, h.contact_on
from dunning.sent_history as h
join source.customer_keys as k using (customer_id)
where h.stream = 'order' and h.outcome in ('accepted', 'attempting', 'unknown') and h.contact_on <= $last

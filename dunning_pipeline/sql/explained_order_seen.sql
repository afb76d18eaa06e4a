select observed_at, outstanding_minor, currency, financial_status, fulfillment_status, cancelled_at
from source.order_observations
where order_id = $order_id and observed_at < $until
order by observed_at

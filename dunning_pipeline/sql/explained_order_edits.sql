select edit_id, edited_at, kind, edited_by, app_title
from source.order_edits
where order_id = $order_id and coalesce(seen_at, edited_at) < $until
order by edited_at, edit_id

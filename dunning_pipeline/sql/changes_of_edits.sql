-- What some edits changed, a row per change. Amounts come in ten-thousandths of the major unit: whole numbers are exact,
-- and no currency has more decimals.
with edits as (
    select edit_id, case when json_valid(changes) then changes end as changes
    from source.order_edits semi join wanted_edits using (edit_id)
    where changes is not null
),
listed as (
    select
        edit_id, generate_subscripts(items, 1) as place, unnest(items) as item
    from (
        select
            edit_id,
            from_json(changes, '[{"title": "VARCHAR", "quantity": "BIGINT", "amount": "DECIMAL(28, 4)"}]') as items
        from edits
    )
)
select
    edit_id, place, item.title as title, item.quantity as quantity,
    (item.amount * 10000)::bigint as amount_ten_thousandths
from listed
where item.title is not null

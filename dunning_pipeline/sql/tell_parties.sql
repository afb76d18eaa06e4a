-- Gives the edits of a source the parties that their texts stand for (RULES 8.1). `parties`: text in lower case, party.
update source.order_edits as e set edited_by = told.party
from (
    select edit_id, coalesce(any_value(parties.party), $other) as party
    from source.order_edits as edits left join parties on parties.text = lower(trim(edits.app_title))
    where source = $source
    group by edit_id
) as told
where e.edit_id = told.edit_id and e.source = $source and e.edited_by is distinct from told.party

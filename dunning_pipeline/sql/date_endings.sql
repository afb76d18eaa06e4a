-- The day on which an invoice that was known and good turned out to be void or written off, for sources that do not tell
-- it: the day of the pull that saw it first. `incoming` holds what was pulled and is about to be merged.
update incoming
set
    voided_on = case
        when incoming.status <> 'void' or incoming.voided_on is not null then incoming.voided_on
        when known.status = 'void' then known.voided_on
        else $day
    end,
    written_off_on = case
        when incoming.status <> 'written_off' or incoming.written_off_on is not null then incoming.written_off_on
        when known.status = 'written_off' then known.written_off_on
        else $day
    end
from source.invoices as known
where known.invoice_id = incoming.invoice_id and known.source = $source

-- Payments of invoices that no source ever had: they count as unapplied (RULES 1.4).
select count(*) as n, array_to_string(min(p.payment_id, 5), ', ') as ids
from source.payments as p
anti join source.invoices as i on i.invoice_key = p.invoice_key
where p.invoice_id is not null

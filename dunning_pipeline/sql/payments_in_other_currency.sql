-- Payments in another currency than their invoice, which was recorded, or changed its currency, after them (RULES 1.2).
select count(*) as n, array_to_string(min(p.payment_id, 5), ', ') as ids
from source.payments as p
join source.invoices as i on i.invoice_key = p.invoice_key
where p.currency <> i.currency

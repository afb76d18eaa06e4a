-- What was known on a day of a customer's payments, and of what others paid for it. `unapplied` is as in RULES 1.4: what
-- came before its invoice was no payment of it yet.
select
    p.payment_id, p.kind, p.currency, p.amount_minor, p.paid_on, p.invoice_id, coalesce(i.number, p.invoice_id) as number,
    i.invoice_key is null as unapplied
from source.payments as p
left join (from source.invoices where recorded_on <= $day) as i using (invoice_key)
where p.paid_on <= $day and p.recorded_on <= $day
    and (i.customer_key = $customer_key or (i.invoice_key is null and p.customer_key = $customer_key))
order by p.paid_on desc, p.payment_id

-- A customer's carrying invoice, its last executed action, and the customer's last contact.
select
    i.invoice_id, coalesce(i.due_on, i.issued_on) as due,
    (select max(position) from contacts as c where c.customer_id = i.customer_id and c.invoice_id = i.invoice_id),
    (select max(contact_on) from contacts as c where c.customer_id = i.customer_id)
from invoices as i
where i.customer_id = :customer
    and i.recorded_on <= :day
    and i.status <> 'draft'
    and not (i.status = 'void' and i.voided_on is null)
    and not (i.status = 'written_off' and i.written_off_on is null)
    and (i.voided_on is null or i.voided_on > :day)
    and (i.written_off_on is null or i.written_off_on > :day)
    and (i.missing_since is null or i.missing_since > :day)
    and (i.disputed_on is null or i.disputed_on > :day or i.dispute_resolved_on <= :day)
    and i.total_minor > coalesce(
        (
            select sum(p.amount_minor)
            from payments as p
            where p.invoice_id = i.invoice_id and p.paid_on <= :day and p.recorded_on <= :day
        ),
        0
    )
order by due, i.total_minor desc, i.invoice_id
limit 1

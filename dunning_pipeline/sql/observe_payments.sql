-- Payments of systems that tell only what is left of an invoice: a change since the last pull was paid, or taken back, on
-- the day of this pull. `incoming` holds what was pulled. That nothing is left of a void invoice is no payment.
insert into source.payments by name
select
    'observed:' || invoice_id || ':' || (
        1 + (select count(*) from source.payments as p where p.payment_id like 'observed:%' and p.invoice_id = i.invoice_id)
    ) as payment_id,
    customer_id, invoice_id, customer_key, invoice_key, currency, source,
    case when paid_minor > 0 then 'payment' else 'chargeback' end as kind,
    paid_minor as amount_minor,
    $day as paid_on,
    $day as recorded_on
from (
    select
        invoices.*,
        total_minor - outstanding_minor - coalesce((
            select sum(amount_minor) from source.payments as p
            where p.invoice_key = invoices.invoice_key and p.currency = invoices.currency
        ), 0) as paid_minor
    from source.invoices semi join incoming using (invoice_id)
    where source = $source and outstanding_minor is not null and status not in ('void', 'written_off')
) as i
where paid_minor <> 0

-- Payments known by the last day of a window, whatever source they came from: what was paid stays paid. Applied
-- payments whose invoice no source ever had are unapplied (RULES 1.4); those of an invoice that is only recorded later,
-- or that belongs to a source which the policy no longer names, affect nothing.
select
    p.customer_key, p.amount_minor, p.paid_on, p.recorded_on,
    coalesce(i.invoice_key, -1) as invoice_key,
    p.currency::currency_code as currency
from source.payments as p
left join source.invoices as i on i.invoice_key = p.invoice_key
where p.paid_on <= $last and p.recorded_on <= $last
    and (i.invoice_key is null or (i.recorded_on <= $last and list_contains($sources, i.source)))

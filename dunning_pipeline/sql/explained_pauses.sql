-- Pauses that hold a customer, some of its invoices or everybody on a day (RULES 6.1).
with pauses as (
    select
        pause_id, source, scope, customer_key, invoice_key, invoice_id, paused_from,
        min(paused_until) as paused_until
    from source.pauses
    where recorded_on <= $day
    group by all
)
select p.pause_id, p.source, p.scope, p.invoice_id, p.paused_from, p.paused_until
from pauses as p
left join source.invoices as i using (invoice_key)
where p.paused_from <= $day and (p.paused_until is null or p.paused_until > $day)
    and case p.scope
        when 'organisation' then true
        when 'customer' then p.customer_key = $customer_key
        else i.customer_key = $customer_key
    end
order by p.paused_from, p.pause_id

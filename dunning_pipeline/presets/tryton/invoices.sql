-- Tryton 8.2 (and 6.0 onwards), PostgreSQL. Models: account.invoice (modules/account_invoice), account.move.line
-- (modules/account). Credit notes are invoices with negative totals. Due is the earliest line that is left to pay.
select
    i.id::text as invoice_id,
    i.party::text as customer_id,
    i.number,
    coalesce(i.invoice_date, i.create_date::date) as issued_on,
    coalesce(due.left_on, due.last_on) as due_on,
    currency.code as currency,
    coalesce(i.total_amount_cache, 0) as total,
    case when i.state in ('posted', 'paid') then 'open' when i.state = 'cancelled' then 'void' else 'draft' end as status,
    case when i.state = 'cancelled' then cancelled.date end as voided_on,
    greatest(coalesce(i.write_date, i.create_date), due.changed_at) at time zone 'UTC' as updated_at
from account_invoice as i
join currency_currency as currency on currency.id = i.currency
left join account_move as cancelled on cancelled.id = i.cancel_move
left join lateral (
    select
        min(line.maturity_date) filter (where line.reconciliation is null) as left_on,
        max(line.maturity_date) as last_on,
        max(coalesce(line.write_date, line.create_date)) as changed_at
    from account_move_line as line
    where line.account = i.account and (line.move = i.move or line.move in (
        select additional.move from "account_invoice-additional-account_move" as additional
        where additional.invoice = i.id
    ))
) as due on true
where i.type = 'out'

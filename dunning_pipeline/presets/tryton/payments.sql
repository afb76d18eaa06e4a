-- Tryton 8.2 (and 6.0 onwards), PostgreSQL. Models: account.invoice (modules/account_invoice), account.move.line and
-- account.move.reconciliation (modules/account).
-- What is left of a posted invoice is, as in Invoice.get_amount_to_pay, the sum of its lines to pay and of its payment
-- lines that are not reconciled. So its payment lines are payments, and what was reconciled beyond them is one more.
with lines as (
    select
        line.*, account_move.date,
        coalesce(line.second_currency, company.currency) as line_currency,
        coalesce(line.amount_second_currency, line.debit - line.credit) as amount
    from account_move_line as line
    join account_move on account_move.id = line.move
    join company_company as company on company.id = account_move.company
),
owed as (
    select i.id as invoice, i.party, i.currency, lines.id as line, lines.amount, lines.reconciliation
    from account_invoice as i
    join lines on lines.account = i.account and (lines.move = i.move or lines.move in (
        select additional.move from "account_invoice-additional-account_move" as additional
        where additional.invoice = i.id
    ))
    where i.type = 'out' and i.state in ('posted', 'paid')
),
linked as (
    select i.id as invoice, i.party, i.currency, lines.id as line, lines.amount, lines.reconciliation, lines.date,
        lines.create_date
    from account_invoice as i
    join "account_invoice-account_move_line" as link on link.invoice = i.id
    join lines on lines.id = link.line
    where i.type = 'out' and i.state in ('posted', 'paid')
)
select
    'line:' || linked.line as payment_id,
    linked.party::text as customer_id,
    linked.invoice::text as invoice_id,
    currency.code as currency,
    -linked.amount as amount,
    linked.date as paid_on,
    greatest(linked.date, linked.create_date::date) as recorded_on
from linked
join currency_currency as currency on currency.id = linked.currency
union all
select
    'reconciled:' || owed.invoice,
    owed.party::text,
    owed.invoice::text,
    currency.code,
    sum(owed.amount) + coalesce((
        select sum(linked.amount) from linked
        where linked.invoice = owed.invoice and linked.reconciliation is not null
    ), 0),
    max(reconciliation.date),
    greatest(max(reconciliation.date), max(reconciliation.create_date::date))
from owed
join account_move_reconciliation as reconciliation on reconciliation.id = owed.reconciliation
join currency_currency as currency on currency.id = owed.currency
group by owed.invoice, owed.party, currency.code
union all
select
    'unapplied:' || lines.id,
    lines.party::text,
    null,
    currency.code,
    -lines.amount,
    lines.date,
    greatest(lines.date, lines.create_date::date)
from lines
join account_account as account on account.id = lines.account
join account_account_type as type on type.id = account.type
join currency_currency as currency on currency.id = lines.line_currency
where type.receivable and lines.party is not null and lines.amount < 0 and lines.reconciliation is null
    and lines.id not in (select linked.line from linked) and lines.id not in (select owed.line from owed)

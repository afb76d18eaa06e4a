-- Odoo 16 to 19, PostgreSQL. Models: account.move.line and account.partial.reconcile (addons/account/models/).
-- What was credited to a customer counts as unapplied from its own date on. Each partial reconciliation takes its amount
-- out of that and applies it to an invoice, on the date of the credit, known from the day it was reconciled.
with credits as (
    select
        line.id, line.date, line.create_date, line.amount_currency, line.currency_id,
        partner.commercial_partner_id::text as customer_id,
        case when m.move_type = 'out_refund' then 'credit_note' else 'payment' end as kind
    from account_move_line as line
    join account_move as m on m.id = line.move_id
    join account_account as account on account.id = line.account_id
    join res_partner as partner on partner.id = line.partner_id
    where account.account_type = 'asset_receivable' and line.parent_state = 'posted' and line.amount_currency < 0
)
select
    'credit:' || credits.id as payment_id,
    credits.customer_id,
    null as invoice_id,
    credits.kind,
    currency.name as currency,
    -credits.amount_currency as amount,
    credits.date as paid_on,
    greatest(credits.date, credits.create_date::date) as recorded_on
from credits
join res_currency as currency on currency.id = credits.currency_id
union all
select
    'used:' || partial.id,
    credits.customer_id,
    null,
    credits.kind,
    currency.name,
    -partial.credit_amount_currency,
    credits.date,
    greatest(credits.date, partial.create_date::date)
from account_partial_reconcile as partial
join credits on credits.id = partial.credit_move_id
join res_currency as currency on currency.id = partial.credit_currency_id
where partial.credit_amount_currency <> 0
union all
select
    'applied:' || partial.id,
    m.commercial_partner_id::text,
    m.id::text,
    credits.kind,
    currency.name,
    partial.debit_amount_currency,
    credits.date,
    greatest(credits.date, partial.create_date::date)
from account_partial_reconcile as partial
join credits on credits.id = partial.credit_move_id
join account_move_line as line on line.id = partial.debit_move_id
join account_move as m on m.id = line.move_id
join res_currency as currency on currency.id = partial.debit_currency_id
where m.move_type = 'out_invoice' and partial.debit_amount_currency <> 0

-- Odoo 16 to 19, PostgreSQL. Model: account.move (addons/account/models/account_move.py). Credit notes are payments.
-- An invoice that was cancelled has no date of that.
select
    m.id::text as invoice_id,
    m.commercial_partner_id::text as customer_id,
    nullif(m.name, '/') as number,
    coalesce(m.invoice_date, m.date) as issued_on,
    m.invoice_date_due as due_on,
    currency.name as currency,
    m.amount_total as total,
    case m.state when 'posted' then 'open' when 'cancel' then 'void' else 'draft' end as status,
    case when m.access_token <> '' then (
        select parameter.value || '/my/invoices/' || m.id || '?access_token=' || m.access_token
        from ir_config_parameter as parameter where parameter.key = 'web.base.url'
    ) end as pay_url,
    m.write_date at time zone 'UTC' as updated_at
from account_move as m
join res_currency as currency on currency.id = m.currency_id
where m.move_type = 'out_invoice' and m.commercial_partner_id is not null

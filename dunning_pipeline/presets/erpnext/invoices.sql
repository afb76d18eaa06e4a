-- ERPNext 14 to 16, MariaDB. DocType: Sales Invoice (erpnext/accounts). Returns are payments of the kind credit_note.
-- Owed is what the customer's account says: an invoice in another currency than that account counts in the account's.
select
    i.name as invoice_id,
    i.customer as customer_id,
    i.name as number,
    i.posting_date as issued_on,
    i.due_date as due_on,
    coalesce(nullif(i.party_account_currency, ''), i.currency) as currency,
    case
        when coalesce(nullif(i.party_account_currency, ''), i.currency) = i.currency
        then coalesce(nullif(i.rounded_total, 0), i.grand_total)
        else coalesce(nullif(i.base_rounded_total, 0), i.base_grand_total)
    end as total,
    case i.docstatus when 0 then 'draft' when 1 then 'open' else 'void' end as status,
    case when i.docstatus = 2 then date(i.modified) end as voided_on,
    i.modified as updated_at
from `tabSales Invoice` as i
where i.is_return = 0

-- ERPNext 14 to 16, MariaDB. DocType: Payment Ledger Entry (erpnext/accounts), which has a row for all that changes what
-- is owed on a voucher: Payment Entry, Journal Entry, returns, write-offs, payments at the point of sale. What is entered
-- against anything but an invoice is unapplied, until another entry takes it from there.
select
    ledger.name as payment_id,
    ledger.party as customer_id,
    invoice.name as invoice_id,
    case
        when ledger.voucher_type = 'Sales Invoice' and not (ledger.voucher_no <=> invoice.name) then 'credit_note'
        else 'payment'
    end as kind,
    ledger.account_currency as currency,
    -ledger.amount_in_account_currency as amount,
    ledger.posting_date as paid_on,
    greatest(ledger.posting_date, date(ledger.creation)) as recorded_on,
    ledger.modified as updated_at
from `tabPayment Ledger Entry` as ledger
left join `tabSales Invoice` as invoice
    on invoice.name = ledger.against_voucher_no and ledger.against_voucher_type = 'Sales Invoice' and invoice.is_return = 0
where ledger.party_type = 'Customer' and ledger.account_type = 'Receivable' and ledger.delinked = 0
    and not (invoice.name <=> ledger.voucher_no and ledger.amount_in_account_currency > 0)

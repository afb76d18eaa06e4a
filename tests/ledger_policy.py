"""A policy that reads the shared ledger of real invoices by mapping alone. `${LEDGER_CSV}` names its file."""

LEDGER_POLICY = """\
organisation:
  time_zone: America/New_York
  base_currency: USD
  first_day: "2012-01-01"
calendar:
  working_days: [mon, tue, wed, thu, fri]
workflows:
  - name: standard
    default: true
    minimum_contact_delay: 5
    actions:
      - {name: almost_due, day: -3}
      - {name: reminder_1, day: 1}
      - {name: reminder_2, day: 8}
      - {name: reminder_3, day: 15}
      - {name: final_notice, day: 30}
klaviyo:
  identify_by: [external_id]
sending:
  live: true
sources:
  ledger:
    kind: files
    tables:
      customers:
        path: ${LEDGER_CSV}
        columns: {customerID: [customer_id, external_id], countryCode: country}
      invoices:
        path: ${LEDGER_CSV}
        date_format: "%m/%d/%Y"
        columns:
          invoiceNumber: invoice_id
          customerID: customer_id
          InvoiceDate: issued_on
          DueDate: due_on
          InvoiceAmount: total
        values: {currency: USD}
      payments:
        path: ${LEDGER_CSV}
        date_format: "%m/%d/%Y"
        columns:
          invoiceNumber: [payment_id, invoice_id]
          customerID: customer_id
          InvoiceAmount: amount
          SettledDate: paid_on
        values: {currency: USD}
"""

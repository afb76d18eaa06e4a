select invoice_id, amount_minor, paid_on::varchar, recorded_on::varchar from source.payments where invoice_id is not null

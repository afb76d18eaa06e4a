-- Some invoices change once more, after all others.
update invoices set updated_at = (select max(updated_at) from invoices) + interval '1 hour'
where invoice_id in (select invoice_id from invoices order by invoice_id limit :changed)

-- Payments that a complete list no longer has were taken back on the day of this pull, and those that it has again were
-- made again: each has so many reversals that all of them together say what the list says.
insert into source.payments by name
select
    'reversed:' || payment_id || ':' || (reversals + 1) as payment_id,
    customer_id, invoice_id, customer_key, invoice_key, currency, source,
    case when missing_minor > 0 then 'payment' else 'chargeback' end as kind,
    missing_minor as amount_minor,
    $day as paid_on,
    $day as recorded_on
from (
    select
        p.*,
        coalesce(r.reversals, 0) as reversals,
        case when seen.payment_id is null then -p.amount_minor else 0 end - coalesce(r.reversed_minor, 0) as missing_minor
    from source.payments as p
    left join read_parquet($seen) as seen using (payment_id)
    left join (
        select
            regexp_extract(payment_id, '^reversed:(.*):[0-9]+$', 1) as payment_id,
            count(*) as reversals,
            sum(amount_minor)::bigint as reversed_minor
        from source.payments where source = $source and payment_id like 'reversed:%' group by all
    ) as r using (payment_id)
    where p.source = $source and p.payment_id not like 'reversed:%'
) as payments
where missing_minor <> 0

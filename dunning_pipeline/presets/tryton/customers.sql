-- Tryton 8.2 (and 6.0 onwards), PostgreSQL. Models: party.party, party.party.lang, party.contact_mechanism, party.address
-- (modules/party). A row that was never changed has no write_date. The first contact mechanism of a kind counts.
select
    p.id::text as customer_id,
    p.name,
    p.code,
    mail.value as email,
    phone.value_compact as phone,
    upper(place.code) as country,
    lang.code as language,
    p.create_date at time zone 'UTC' as created_at,
    greatest(
        coalesce(p.write_date, p.create_date), mail.changed_at, phone.changed_at, place.changed_at, lang.changed_at
    ) at time zone 'UTC' as updated_at
from party_party as p
left join lateral (
    select m.value, coalesce(m.write_date, m.create_date) as changed_at
    from party_contact_mechanism as m
    where m.party = p.id and m.type = 'email' and m.active
    order by m.sequence nulls last, m.id limit 1
) as mail on true
left join lateral (
    select m.value_compact, coalesce(m.write_date, m.create_date) as changed_at
    from party_contact_mechanism as m
    where m.party = p.id and m.type in ('phone', 'mobile') and m.active
    order by m.sequence nulls last, m.id limit 1
) as phone on true
left join lateral (
    select country.code, coalesce(a.write_date, a.create_date) as changed_at
    from party_address as a join country_country as country on country.id = a.country
    where a.party = p.id and a.active
    order by a.sequence nulls last, a.id limit 1
) as place on true
left join lateral (
    select language.code, coalesce(l.write_date, l.create_date) as changed_at
    from party_party_lang as l join ir_lang as language on language.id = l.lang
    where l.party = p.id
    order by l.id limit 1
) as lang on true

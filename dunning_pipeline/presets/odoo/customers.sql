-- Odoo 16 to 19, PostgreSQL. Models: res.partner, res.partner.category (odoo/addons/base/models/res_partner.py).
-- Invoices are owed by the commercial partner; its contact for invoices, where it has one, gets the e-mails.
select
    p.id::text as customer_id,
    p.name,
    coalesce(nullif(contact.email, ''), p.email) as email,
    coalesce(nullif(contact.phone, ''), p.phone) as phone,
    country.code as country,
    p.lang as language,
    tags.tags,
    p.create_date at time zone 'UTC' as created_at,
    greatest(p.write_date, contact.write_date) at time zone 'UTC' as updated_at
from res_partner as p
left join res_country as country on country.id = p.country_id
left join lateral (
    select c.email, c.phone, c.write_date from res_partner as c
    where c.parent_id = p.id and c.type = 'invoice' and c.active and c.email <> ''
    order by c.id limit 1
) as contact on true
left join lateral (
    select json_agg(coalesce(category.name ->> 'en_US', category.name ->> p.lang) order by category.id)::text as tags
    from res_partner_res_partner_category_rel as link
    join res_partner_category as category on category.id = link.category_id
    where link.partner_id = p.id
) as tags on true
where p.commercial_partner_id = p.id

-- ERPNext 14 to 16, MariaDB. DocTypes: Customer (erpnext/selling), Address and Country (frappe).
select
    c.name as customer_id,
    c.customer_name as name,
    nullif(c.email_id, '') as email,
    nullif(c.mobile_no, '') as phone,
    upper(country.code) as country,
    replace(nullif(c.language, ''), '-', '_') as language,
    nullif(c.default_currency, '') as currency,
    nullif(trim(both ',' from c._user_tags), '') as tags,
    c.creation as created_at,
    c.modified as updated_at,
    c.customer_group,
    c.territory
from `tabCustomer` as c
left join `tabAddress` as address on address.name = c.customer_primary_address
left join `tabCountry` as country on country.name = address.country

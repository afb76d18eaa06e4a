-- Identifiers of some customers, whose keys `wanted_customers` holds; one that no source has yet is known by its id only.
select k.customer_key, k.customer_id, c.name, c.email, c.phone, c.external_id, c.language, c.country
from source.customer_keys as k
semi join wanted_customers using (customer_key)
left join source.customers as c using (customer_id)

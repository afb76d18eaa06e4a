-- Identifiers of the customers that owe something on a day of the window; a customer that no source has yet is
-- known by its id only.
select k.customer_key, k.customer_id, c.name, c.email, c.phone, c.external_id, c.language, c.country
from source.customer_keys as k
left join source.customers as c using (customer_id)
where k.customer_key in (select customer_key from dunning.balances where as_of between $first and $last)

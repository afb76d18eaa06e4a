select
    'earlier' as batch_id, 'order' as stream, getvariable('now')::date as as_of, 'earlier' as run_id,
    (select count(*) from numbers) as size, true as live, 'sent' as state, 'none' as policy_hash,
    getvariable('now') - interval 1 minute as created_at

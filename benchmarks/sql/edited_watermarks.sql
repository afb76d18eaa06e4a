select
    'shop' as source, 'orders' as "table", 'none' as settings_hash, 'order_id' as columns,
    getvariable('now') as pulled_at, getvariable('now') as newest_at, 'earlier' as run_id

-- The rows that changed series have had, and those of series that there are no more.
delete from dunning.order_series
where (order_key, series) in (select (order_key, series) from changed_series)
    or (order_key, series) not in (select (order_key, series) from decided_series)

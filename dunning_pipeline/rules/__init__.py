"""What is decided, and nothing else: DataFrames in, DataFrames out, one module per section of RULES.md.

No module here imports dagster, duckdb or requests, reads a clock or loops over rows. A customer's result depends
on no other customer, so every rule may be run on any subset of customers. Conventions of the frames: ids are
joined as int64 `customer_key` and `invoice_key` (-1: none), dates are datetime64 without a time of day, money is
int64 minor units, `currency` is categorical with the same categories in every frame of one call.
"""

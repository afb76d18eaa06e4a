"""Reminds customers of what they owe: invoices to carrying invoices to Klaviyo events, on Dagster and DuckDB."""

"""Dagster assets, thin: read, apply the rules, check, replace, describe. What is decided is in rules/."""

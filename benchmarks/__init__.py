"""Speed, measured on generated ledgers against peers in the same run. Nothing here is a test."""

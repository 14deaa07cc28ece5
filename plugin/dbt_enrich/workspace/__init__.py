"""The private DuckDB: set-at-a-time work apart from the user's database."""

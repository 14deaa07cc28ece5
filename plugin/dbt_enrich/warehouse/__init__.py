"""The user's database: rows out, results in."""

"""What tests of several kinds use: a warehouse without dbt, and a dbt project on disk."""

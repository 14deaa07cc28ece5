"""An answer's verdict, in SQL generated from the schema."""

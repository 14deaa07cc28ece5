"""Stage: the SELECT's rows, checked, rendered and keyed."""

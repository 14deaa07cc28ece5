"""What a run costs: tokens counted before it, prices, and caps on both."""

"""What the batch server does wrong on demand: faults, endings, delays, odd replies."""

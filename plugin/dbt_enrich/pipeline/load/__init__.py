"""Load: output and error files become answers."""

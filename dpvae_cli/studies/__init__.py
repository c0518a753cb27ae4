"""Studies: many runs at once, what they show together, and the report of it."""

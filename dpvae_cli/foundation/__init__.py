"""Layer -1: errors, shapes, randomness, result records, files and the frozen base of every spec."""

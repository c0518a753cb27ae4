"""Executors: where cells run. `base` is what they share, every other file is one of them."""

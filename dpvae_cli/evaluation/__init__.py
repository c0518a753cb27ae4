"""Layer 5: the metrics of the paper; objects in, result records out (section 5.1)."""

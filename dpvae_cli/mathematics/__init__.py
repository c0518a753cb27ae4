"""Layer 0: the paper's mathematics. Tensors in, tensors out; no recipe, no YAML, no devices."""

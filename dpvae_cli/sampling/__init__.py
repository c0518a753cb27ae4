"""Layer 4: samples through g^-1, low- and high-posterior samples, traversals (4.1, 5.3)."""

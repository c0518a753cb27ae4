"""Layer 6: the training loop, checkpoints and run folders."""

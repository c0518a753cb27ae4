"""Runs: their folders, checkpoints, logs, results and the trained models in them."""

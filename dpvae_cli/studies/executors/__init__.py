"""Executors start cells somewhere, again where the process died; the cell's folder is the state."""

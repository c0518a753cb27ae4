"""Layer 7: studies. Grids of runs, the machines that run them, their figures and reports."""

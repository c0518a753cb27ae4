"""Priors fitted to the codes of a VAE that is trained already."""

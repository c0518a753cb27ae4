"""The interactive page of `dpvae explore`: both latent spaces and decoded examples in a browser."""

"""dpvae: variational autoencoders with decoupled priors."""

from dpvae_cli.version import __version__

__all__ = ["__version__"]

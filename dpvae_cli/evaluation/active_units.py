"""Active units: latent dimensions that depend on the example."""

from dpvae_cli.foundation.shapes import Codes

THRESHOLD = 0.01


def active_units(means: Codes) -> int:
    """Return the number of dimensions whose posterior mean varies over examples by more than 0.01.

    Source: Burda et al. 2016, section 5.2: A_l = Var_x(E_q(z_l|x)[z_l]) > 0.01.

    Args:
        means: posterior means, `(examples, latent)`.
    """
    return int((means.var(dim=0, correction=0) > THRESHOLD).sum())

"""Active units: latent dimensions that depend on the example."""

from jaxtyping import Bool
from torch import Tensor

from dpvae_cli.evaluation.subject import Subject
from dpvae_cli.foundation.results import Result
from dpvae_cli.foundation.shapes import Codes
from dpvae_cli.sampling.encodings import encode

THRESHOLD = 0.01


def active_units(means: Codes) -> int:
    """Return the number of dimensions whose posterior mean varies over examples by more than 0.01.

    Args:
        means: posterior means, `(examples, latent)`.
    """
    return int(are_active(means).sum())


def are_active(means: Codes) -> Bool[Tensor, " latent"]:
    """Tell of each dimension whether its posterior mean varies over examples by more than 0.01.

    Source: Burda et al. 2016, section 5.2: A_l = Var_x(E_q(z_l|x)[z_l]) > 0.01.

    Args:
        means: posterior means, `(examples, latent)`.
    """
    return means.var(dim=0, correction=0) > THRESHOLD


def measure_active_units(subject: Subject) -> list[Result]:
    """Count the active units over all held-out examples; nothing is drawn."""
    means = encode(subject.model, subject.dataset.split(subject.evaluation.split)).mean
    result = Result(
        metric="active_units",
        value=float(active_units(means)),
        standard_error=None,
        unit="dimensions",
        samples=len(means),
        seed=subject.seed,
        split=subject.evaluation.split,
        details={"latent_dim": subject.model.latent_dim},
    )
    return [result]

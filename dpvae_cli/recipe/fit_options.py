"""What a command says of a fit to codes alone: a prior and `fitting.KEY=VALUE`, as a recipe's."""

from collections.abc import Sequence

from dpvae_cli.priors.base import PriorSpec
from dpvae_cli.recipe.dump import from_dict
from dpvae_cli.recipe.revision import revised
from dpvae_cli.recipe.schema import Fitting


def fit_options(
    prior: str, overrides: Sequence[str], *, latent_dim: int
) -> tuple[PriorSpec, Fitting]:
    """Return what is to be fitted, and how.

    Args:
        prior: a word or a section, as `fit_prior=` takes it in a recipe.
        overrides: `fitting.KEY=VALUE`.
        latent_dim: L of the codes.

    Raises:
        RecipeError: with every mistake.
        UsageError: an override is of something else.
    """
    stand_in = from_dict(
        {
            "data": {"kind": "moons"},
            "architecture": {"kind": "own", "latent_dim": latent_dim},
            "likelihood": {"kind": "gaussian"},
            "prior": {"kind": "standard_normal"},
            "regularizer": {"kind": "vae"},
        },
        name="codes",
    )
    recipe = revised(revised(stand_in, [f"fit_prior={prior}"]), overrides, section="fitting")
    return recipe.final_prior, recipe.fitting

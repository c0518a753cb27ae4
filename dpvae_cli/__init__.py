"""dpvae: variational autoencoders with decoupled priors.

Importing the package imports nothing heavy; each name below is loaded when it is first used.

Example:
    >>> import dpvae_cli as dpvae
    >>> recipe = dpvae.load_recipe("beta_h_moons", ["training.iterations=10"])
    >>> model = dpvae.build(recipe)
    >>> z, log_abs_det = model.prior.to_representation(model.prior.sample(3))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dpvae_cli.version import __version__

if TYPE_CHECKING:
    from dpvae_cli.diagnosis import Diagnosis, DiagnosisBudget, diagnose
    from dpvae_cli.evaluation.evaluate import evaluate
    from dpvae_cli.evaluation.features import FeatureOptions
    from dpvae_cli.fitting.fit import FittedPrior, fit_prior, load_prior
    from dpvae_cli.likelihoods import Bernoulli, Gaussian
    from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
    from dpvae_cli.mathematics.frechet import frechet_distance
    from dpvae_cli.mathematics.gaussian import DiagonalGaussian
    from dpvae_cli.mathematics.kernel_distance import kernel_distance
    from dpvae_cli.model import VAE, build
    from dpvae_cli.priors import (
        Autoregressive,
        Decoupled,
        Mixture,
        Resampled,
        Spline,
        StandardNormal,
        Vamp,
    )
    from dpvae_cli.recipe import Fitting, Recipe, load_recipe
    from dpvae_cli.runs.loaded_run import load
    from dpvae_cli.training.train import train

_PLACES = {
    "AggregatePosterior": "dpvae_cli.mathematics.aggregate_posterior",
    "Autoregressive": "dpvae_cli.priors",
    "Bernoulli": "dpvae_cli.likelihoods",
    "Decoupled": "dpvae_cli.priors",
    "Diagnosis": "dpvae_cli.diagnosis",
    "DiagnosisBudget": "dpvae_cli.diagnosis",
    "DiagonalGaussian": "dpvae_cli.mathematics.gaussian",
    "FeatureOptions": "dpvae_cli.evaluation.features",
    "FittedPrior": "dpvae_cli.fitting.fit",
    "Fitting": "dpvae_cli.recipe",
    "Gaussian": "dpvae_cli.likelihoods",
    "Mixture": "dpvae_cli.priors",
    "Recipe": "dpvae_cli.recipe",
    "Resampled": "dpvae_cli.priors",
    "Spline": "dpvae_cli.priors",
    "StandardNormal": "dpvae_cli.priors",
    "VAE": "dpvae_cli.model",
    "Vamp": "dpvae_cli.priors",
    "build": "dpvae_cli.model",
    "diagnose": "dpvae_cli.diagnosis",
    "evaluate": "dpvae_cli.evaluation.evaluate",
    "fit_prior": "dpvae_cli.fitting.fit",
    "frechet_distance": "dpvae_cli.mathematics.frechet",
    "kernel_distance": "dpvae_cli.mathematics.kernel_distance",
    "load": "dpvae_cli.runs.loaded_run",
    "load_prior": "dpvae_cli.fitting.fit",
    "load_recipe": "dpvae_cli.recipe",
    "train": "dpvae_cli.training.train",
}

__all__ = [
    "VAE",
    "AggregatePosterior",
    "Autoregressive",
    "Bernoulli",
    "Decoupled",
    "Diagnosis",
    "DiagnosisBudget",
    "DiagonalGaussian",
    "FeatureOptions",
    "FittedPrior",
    "Fitting",
    "Gaussian",
    "Mixture",
    "Recipe",
    "Resampled",
    "Spline",
    "StandardNormal",
    "Vamp",
    "__version__",
    "build",
    "diagnose",
    "evaluate",
    "fit_prior",
    "frechet_distance",
    "kernel_distance",
    "load",
    "load_prior",
    "load_recipe",
    "train",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

"""dpvae: variational autoencoders with decoupled priors.

Importing the package imports nothing heavy; each public name is loaded when it is first used.

Example:
    >>> import dpvae_cli as dpvae
    >>> recipe = dpvae.load_recipe("beta_h_moons", ["training.iterations=10"])
    >>> model = dpvae.build(recipe)
    >>> z, log_abs_det = model.prior.to_representation(model.prior.sample(3))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dpvae_cli.version import __version__ as __version__

if TYPE_CHECKING:
    from dpvae_cli.diagnosis import Diagnosis as Diagnosis
    from dpvae_cli.diagnosis import DiagnosisBudget as DiagnosisBudget
    from dpvae_cli.diagnosis import diagnose as diagnose
    from dpvae_cli.evaluation.evaluate import evaluate as evaluate
    from dpvae_cli.evaluation.features import FeatureOptions as FeatureOptions
    from dpvae_cli.explorer.page import explore as explore
    from dpvae_cli.exporter.export import export as export
    from dpvae_cli.fitting.fit import FittedPrior as FittedPrior
    from dpvae_cli.fitting.fit import fit_prior as fit_prior
    from dpvae_cli.fitting.fit import load_prior as load_prior
    from dpvae_cli.likelihoods import Bernoulli as Bernoulli
    from dpvae_cli.likelihoods import Gaussian as Gaussian
    from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior as AggregatePosterior
    from dpvae_cli.mathematics.frechet import frechet_distance as frechet_distance
    from dpvae_cli.mathematics.gaussian import DiagonalGaussian as DiagonalGaussian
    from dpvae_cli.mathematics.kernel_distance import kernel_distance as kernel_distance
    from dpvae_cli.mathematics.support import compare_support as compare_support
    from dpvae_cli.model import VAE as VAE
    from dpvae_cli.model import build as build
    from dpvae_cli.priors import *  # noqa: F403 - every kind of prior
    from dpvae_cli.recipe import Fitting as Fitting
    from dpvae_cli.recipe import Recipe as Recipe
    from dpvae_cli.recipe import load_recipe as load_recipe
    from dpvae_cli.runs.loaded_run import load as load
    from dpvae_cli.training.train import train as train

_NAMES = {
    "diagnosis": ("Diagnosis", "DiagnosisBudget", "diagnose"),
    "evaluation.evaluate": ("evaluate",),
    "evaluation.features": ("FeatureOptions",),
    "explorer.page": ("explore",),
    "exporter.export": ("export",),
    "fitting.fit": ("FittedPrior", "fit_prior", "load_prior"),
    "likelihoods": ("Bernoulli", "Gaussian"),
    "mathematics.aggregate_posterior": ("AggregatePosterior",),
    "mathematics.frechet": ("frechet_distance",),
    "mathematics.gaussian": ("DiagonalGaussian",),
    "mathematics.kernel_distance": ("kernel_distance",),
    "mathematics.support": ("compare_support",),
    "model": ("VAE", "build"),
    "recipe": ("Fitting", "Recipe", "load_recipe"),
    "runs.loaded_run": ("load",),
    "training.train": ("train",),
}
"""Public names by module; those of `priors` are the spec classes of all kinds."""


def _modules() -> dict[str, str]:
    """Return the module of every public name."""
    from dpvae_cli.foundation.kinds import kinds_in_source  # noqa: PLC0415 - when first asked

    names = _NAMES | {"priors": tuple(kinds_in_source("priors").values())}
    return {name: f"dpvae_cli.{module}" for module, listed in names.items() for name in listed}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name == "__all__":
        return sorted([*_modules(), "__version__"])
    if name.startswith("__") or name not in (modules := _modules()):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(modules[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_modules(), "__version__"])

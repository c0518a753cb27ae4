"""What tests must know of each kind of recipe section: a new kind adds its rows here.

Contract tests, resume tests and the test of every field take a kind as it stands here, and with
its defaults where it does not.
"""

from contextlib import contextmanager
from typing import Any

import pytest

from dpvae_cli.foundation.spec import Spec
from dpvae_cli.recipe.validation import kinds

SMALL: dict[tuple[str, str], dict[str, Any]] = {
    ("prior", "spline"): {"bins": 5, "hidden": 16},
    ("prior", "autoregressive"): {"hidden": 16},
    ("prior", "mixture"): {"components": 5},
    ("prior", "vamp"): {"pseudo_inputs": 6},
    ("prior", "resampled"): {"hidden": 16, "truncation": 10},
    ("prior", "flow_matching"): {"hidden": 8, "blocks": 1, "steps": 4},
}
"""Fields of a kind whose defaults are slow, or only noise at random weights."""
VARIANTS: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("prior", "decoupled"): [
        {"blocks": 3, "masks": "alternating", "hidden": 8},
        {
            "blocks": 2,
            "masks": ((0, 1), (1, 0)),
            "scale_bound": None,
            "translate_bound": None,
            "hidden": 8,
        },
        {"base": "student_t", "hidden": 8},
        {"base": "mixture", "base_components": 3, "hidden": 8},
    ],
    ("prior", "mixture"): [{"components": 3, "covariance": "full"}],
    ("prior", "vamp"): [{"pseudo_inputs": 4, "range": (-1.0, 1.0)}],
    ("prior", "resampled"): [{"hidden": 8, "truncation": 2}],
}
"""Further settings of a kind that contract tests try."""
NOT_DIFFERENTIABLE = {
    "standard_normal": {...},
    "decoupled": {"base.logits"},
    "mixture": {"logits"},
    "resampled": {...},
}
"""Parameters of priors that no gradient of a sample reaches; ... stands for all."""
ESTIMATED = {"resampled"}
"""Priors whose density contains an estimate."""


def small_spec(section: str, kind: str) -> Spec:
    """Return a spec of the kind as tests use it."""
    spec: Spec = kinds(section)[kind](**SMALL.get((section.removeprefix("fit_"), kind), {}))
    return spec


def small_section(section: str, kind: str) -> str:
    """Return the same as a recipe says it."""
    fields = SMALL.get((section, kind), {}).items()
    return f"{{{', '.join([f'kind: {kind}', *(f'{name}: {value}' for name, value in fields)])}}}"


CHANGES = {
    ("data", "moons", "train"): "119",
    ("data", "moons", "validation"): "39",
    ("data", "moons", "test"): "39",
    ("data", "moons", "noise"): "0.1",
    ("data", "moons", "seed"): "1",
    ("data", "mnist", "validation"): "12",
    ("data", "mnist", "binarize"): "threshold",
    ("data", "digits", "validation"): "0.2",
    ("data", "digits", "test"): "0.2",
    ("data", "digits", "binarize"): "threshold",
    ("data", "svhn", "validation"): "0.3",
    ("data", "svhn", "extra"): "true",
    ("data", "celeba", "crop"): "20",
    ("data", "celeba", "size"): "4",
    ("data", "celeba", "on_error"): "raise",
    ("data", "folder", "path"): "others",
    ("data", "folder", "size"): "4",
    ("data", "folder", "crop"): "20",
    ("data", "folder", "colour"): "grey",
    ("data", "folder", "validation"): "0.3",
    ("data", "folder", "test"): "0.3",
    ("data", "folder", "splits"): "auto",
    ("data", "folder", "max_pixels"): "1199",
    ("data", "folder", "on_error"): "raise",
    ("data", "arrays", "path"): "other.npy",
    ("data", "arrays", "scale"): "standardize",
    ("data", "arrays", "validation"): "0.2",
    ("data", "arrays", "test"): "0.2",
    ("data", "arrays", "shuffle_seed"): "1",
    ("data", "arrays", "binarize"): "static",
    ("data", "arrays", "factors"): "factors.npy",
    ("data", "sprites", "shape"): "3",
    ("data", "sprites", "scale"): "3",
    ("data", "sprites", "orientation"): "4",
    ("data", "sprites", "x"): "5",
    ("data", "sprites", "y"): "3",
    ("data", "sprites", "validation"): "0.2",
    ("data", "sprites", "test"): "0.2",
    ("data", "dsprites", "images"): "80",
    ("data", "dsprites", "validation"): "0.2",
    ("data", "dsprites", "test"): "0.2",
    ("architecture", "mlp", "latent_dim"): "3",
    ("architecture", "mlp", "log_variance_range"): "[-0.01, 0.01]",
    ("architecture", "mlp", "hidden"): "[9]",
    ("architecture", "mlp", "activation"): "tanh",
    ("architecture", "mnist_conv", "latent_dim"): "3",
    ("architecture", "mnist_conv", "log_variance_range"): "[-0.01, 0.01]",
    ("architecture", "svhn_conv", "latent_dim"): "3",
    ("architecture", "svhn_conv", "log_variance_range"): "[-0.01, 0.01]",
    ("architecture", "celeba_conv", "latent_dim"): "3",
    ("architecture", "celeba_conv", "log_variance_range"): "[-0.01, 0.01]",
    ("architecture", "celeba_conv", "negative_slope"): "1.0",
    ("architecture", "conv", "latent_dim"): "3",
    ("architecture", "conv", "log_variance_range"): "[-0.01, 0.01]",
    ("architecture", "conv", "width"): "3",
    ("architecture", "conv", "depth"): "2",
    ("architecture", "own", "latent_dim"): "3",
    ("likelihood", "gaussian", "scale"): "0.5",
    ("likelihood", "gaussian", "learned"): "true",
    ("likelihood", "gaussian", "floor"): "0.01",
    ("likelihood", "bernoulli", "probabilities"): "true",
    ("prior", "decoupled", "blocks"): "4",
    ("prior", "decoupled", "masks"): "[[1,0],[1,0],[1,0],[0,1],[0,1],[0,1]]",
    ("prior", "decoupled", "hidden"): "8",
    ("prior", "decoupled", "scale_bound"): "0.5",
    ("prior", "decoupled", "translate_bound"): "null",
    ("prior", "decoupled", "base"): "student_t",
    ("prior", "decoupled", "base_components"): "3",
    ("prior", "spline", "blocks"): "3",
    ("prior", "spline", "bins"): "6",
    ("prior", "spline", "bound"): "3.0",
    ("prior", "spline", "hidden"): "8",
    ("prior", "autoregressive", "blocks"): "3",
    ("prior", "autoregressive", "hidden"): "8",
    ("prior", "mixture", "components"): "3",
    ("prior", "mixture", "covariance"): "full",
    ("prior", "vamp", "pseudo_inputs"): "9",
    ("prior", "vamp", "range"): "[-1.0, 1.0]",
    ("prior", "resampled", "truncation"): "3",
    ("prior", "resampled", "hidden"): "8",
    ("prior", "resampled", "draws"): "50",
    ("fit_prior", "flow_matching", "hidden"): "9",
    ("fit_prior", "flow_matching", "blocks"): "2",
    ("fit_prior", "flow_matching", "steps"): "3",
    ("regularizer", "vae", "warm_up"): "4",
    ("regularizer", "beta_h", "beta"): "5",
    ("regularizer", "beta_h", "warm_up"): "4",
    ("regularizer", "beta_b", "gamma"): "5",
    ("regularizer", "beta_b", "max_capacity"): "9",
    ("regularizer", "beta_b", "stop_step"): "3",
    ("regularizer", "beta_tc", "warm_up"): "4",
    ("regularizer", "beta_tc", "alpha"): "2",
    ("regularizer", "beta_tc", "beta"): "2",
    ("regularizer", "beta_tc", "gamma"): "2",
    ("regularizer", "beta_tc", "form"): "printed",
    ("regularizer", "beta_tc", "sampling"): "weighted",
    ("regularizer", "beta_tc", "weights_per"): "other",
    ("regularizer", "factor", "warm_up"): "4",
    ("regularizer", "factor", "gamma"): "5",
    ("regularizer", "factor", "width"): "9",
    ("regularizer", "factor", "depth"): "2",
    ("regularizer", "factor", "discriminator_learning_rate"): "0.5",
    ("regularizer", "factor", "weights_per"): "other",
    ("regularizer", "info", "warm_up"): "4",
    ("regularizer", "info", "alpha"): "0.5",
    ("regularizer", "info", "lambda"): "5",
    ("regularizer", "info", "bandwidth"): "9",
    ("regularizer", "info", "weights_per"): "other",
    ("training", None, "iterations"): "7",
    ("training", None, "batch_size"): "17",
    ("training", None, "learning_rate"): "0.01",
    ("training", None, "gradient_clip"): "0.001",
    ("training", None, "precision"): "float64",
    ("training", None, "compile"): "on",
    ("training", None, "ema"): "0.9",
    ("training", None, "log_every"): "2",
    ("training", None, "validate_every"): "3",
    ("training", None, "checkpoint_every"): "2",
    ("training", None, "tensorboard"): "true",
    ("training", None, "trackers"): "[tensorboard]",
    ("fitting", None, "iterations"): "4",
    ("fitting", None, "batch_size"): "17",
    ("fitting", None, "learning_rate"): "0.5",
    ("fitting", None, "held_out"): "0.5",
    ("fitting", None, "validate_every"): "2",
    ("fitting", None, "patience"): "1",
    ("fitting", None, "given"): "label",
    ("evaluation", None, "split"): "validation",
    ("evaluation", None, "samples"): "21",
    ("evaluation", None, "neighbours"): "2",
    ("evaluation", None, "nll_samples"): "21",
    ("evaluation", None, "nll_images"): "4",
    ("evaluation", None, "thresholds"): "[-3]",
    ("evaluation", None, "quantiles"): "[0.5]",
    ("evaluation", None, "manifold_samples"): "21",
    ("evaluation", None, "fid_samples"): "21",
    ("evaluation", None, "fid_images"): "30",
    ("evaluation", None, "support_samples"): "21",
    ("evaluation", None, "support_neighbours"): "2",
    ("evaluation", None, "pool"): "6",
    ("evaluation", None, "factor_samples"): "21",
    ("evaluation", None, "factor_repeats"): "3",
    ("evaluation", None, "probe_samples"): "21",
    ("evaluation", None, "c2st_samples"): "21",
}
"""Another value of each field that a recipe can hold, so that something visible changes."""
CHANGES |= {
    ("fit_prior", kind, field): value
    for (section, kind, field), value in CHANGES.items()
    if section == "prior"
}
IMAGES = {
    "digits": ("data=digits",),
    "sprites": ("data={kind: sprites, shape: 2, scale: 2, orientation: 3, x: 4, y: 2}",),
    "dsprites": ("data=dsprites",),
    "svhn": ("data=svhn",),
    "celeba": ("data={kind: celeba, crop: 30, size: 6, on_error: skip}",),
    "folder": ("data={kind: folder, path: mine, size: 6, on_error: skip, splits: random}",),
    "svhn_conv": ("data={kind: folder, path: mine, size: 32, on_error: skip}",),
    "celeba_conv": ("data={kind: folder, path: mine, size: 64, on_error: skip}",),
    "conv": ("data={kind: folder, path: mine, size: 8, on_error: skip}",),
}
"""Where a kind of data or architecture is tried that the packaged small recipes do not have."""


@contextmanager
def few_proposals():
    """Estimate the resampled prior's normaliser from few proposals: it is always the same ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dpvae_cli.priors.resampled.EVALUATION_PROPOSALS", 1_000)
        yield

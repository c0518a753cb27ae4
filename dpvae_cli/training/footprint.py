"""What a training step holds in memory, told before anything of it is made."""

import math

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from dpvae_cli.foundation.allocation import FLOAT32, SMALLER_HINT, num_parameters
from dpvae_cli.foundation.memory import check_fits_in_memory
from dpvae_cli.recipe import Recipe
from dpvae_cli.regularizers.base import Training as RunSizes

COPIES = 2
"""An activation and its gradient."""
OF_A_WEIGHT = 4
"""A weight, its gradient and Adam's two moments."""
ORDINARY_BATCH, ORDINARY_VALUES, ORDINARY_WEIGHTS = 512, 2**14, 2**26
"""Up to here nothing is counted: torch takes a second to begin with its meta device."""


def refuse_training(recipe: Recipe, shape: tuple[int, ...], *, processes: int = 1) -> None:
    """Refuse a batch or networks whose training needs more memory than there is.

    Of processes that share a batch each has its part of the activations.

    Raises:
        UsageError: says how much it needs.
    """
    batch, values = recipe.training.batch_size, math.prod(shape)
    weights, activations = _counted(recipe, shape)
    numbers = OF_A_WEIGHT * weights + COPIES * batch * (values + activations) // processes
    what = f"training with training.batch_size={batch:,}"
    check_fits_in_memory(what, FLOAT32 * numbers, hint=SMALLER_HINT)


def _counted(recipe: Recipe, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the weights, and the numbers that autograd keeps of each example.

    The networks are made and called on torch's meta device, where nothing is computed; what cannot
    be called there counts as nothing, and so do the activations of ordinary runs.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            networks = _networks(recipe, shape)
            weights = sum(map(num_parameters, networks))
            if _is_ordinary(recipe.training.batch_size, math.prod(shape), weights):
                return weights, 0
            two, three = (_saved(networks, torch.empty(batch, *shape)) for batch in (2, 3))
    except (RuntimeError, NotImplementedError):
        return 0, 0
    return weights, three - two


def _is_ordinary(batch: int, values: int, weights: int) -> bool:
    return batch <= ORDINARY_BATCH and values <= ORDINARY_VALUES and weights <= ORDINARY_WEIGHTS


def _networks(recipe: Recipe, shape: tuple[int, ...]) -> list[nn.Module]:
    """Return encoder, decoder, prior and, where there is one, the adversary."""
    latent_dim = recipe.architecture.latent_dim
    encoder, decoder = recipe.architecture.build(shape)
    prior = recipe.prior.build(latent_dim, encoder, shape)
    sizes = RunSizes(recipe.training.batch_size, recipe.training.batch_size)
    adversary = recipe.regularizer.build(latent_dim, sizes).adversary
    return [encoder, decoder, prior, *([] if adversary is None else [adversary])]


def _saved(networks: list[nn.Module], x: Tensor) -> int:
    """Return how many numbers autograd keeps of one call of each network."""
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    encoder, decoder, prior, *adversaries = networks
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        z = encoder(x).mean
        decoder(z)
        prior.log_prob(z)  # type: ignore[operator]
        for adversary in adversaries:
            adversary(z)
    return sum(kept)

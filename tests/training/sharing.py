"""Train the cases of test_processes in as many processes as there are; started by torchrun.

torchrun --standalone --nproc-per-node 2 -m tests.training.sharing OUT.npz
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dpvae_cli.data import Dataset, Split
from dpvae_cli.foundation.distributed import SINGLE_PROCESS, ProcessGroup, process_group
from dpvae_cli.recipe import Recipe, load_recipe
from dpvae_cli.regularizers.base import weighted_loss
from dpvae_cli.training.train import Trainer
from tests.small import PRIORS, REGULARIZERS, small_recipe

CPU = torch.device("cpu")
STEPS = 20
PRECISIONS = ("float32", "float64")


def noise_images(channels: int, side: int, count: int = 48) -> Dataset:
    """Return 8-bit noise in place of pictures."""
    draws = torch.Generator().manual_seed(1)
    shape = (count, channels, side, side)
    stored = torch.randint(0, 256, shape, dtype=torch.uint8, generator=draws)
    return Dataset("noise", *(Split(stored) for _ in range(3)), eight_bit=True)


def cases() -> dict[str, tuple[Recipe, Dataset, dict[str, Any]]]:
    """Return recipe, data and what else a trainer is given, by name."""
    found = {}
    for regularizer in REGULARIZERS:
        for prior in PRIORS:
            recipe = small_recipe(regularizer, f"prior={prior}")
            found[f"{regularizer} {prior}"] = (recipe, recipe.data.load(), {})
    small = ("training.batch_size=16", f"training.iterations={STEPS}")
    svhn = load_recipe("factor_svhn", ["regularizer.width=8", "architecture.latent_dim=4", *small])
    found["batch norm"] = (svhn, noise_images(3, 32), {})
    binary = load_recipe("beta_h_digits", ["data.binarize=dynamic", "likelihood=bernoulli", *small])
    found["dynamic binarisation"] = (binary, binary.data.load(), {})
    averaged = small_recipe("beta_tc", "training.ema=0.9", "regularizer.warm_up=15")
    found["average and warm-up"] = (averaged, averaged.data.load(), {})
    return found


def trained(
    recipe: Recipe, dataset: Dataset, options: dict[str, Any], precision: str, group: ProcessGroup
) -> dict[str, np.ndarray]:
    """Return the losses of each step, and the weights after the last one."""
    changed = recipe.training.model_copy(update={"precision": precision})
    recipe = recipe.model_copy(update={"training": changed})
    trainer = Trainer(recipe, dataset, CPU, group=group, **options)
    losses: dict[str, list[float]] = {}
    for _ in range(STEPS):
        terms = trainer.step()
        means = {name: term.value.mean() for name, term in terms.items()} | {
            "total": weighted_loss(terms)
        }
        for name, mean in means.items():
            losses.setdefault(name, []).append(float(group.all_reduce_mean(mean)))
    weights = {f"weight/{k}": v.numpy() for k, v in trainer.checkpoint().tensors.items()}
    return {f"loss/{k}": np.array(v) for k, v in losses.items()} | weights


def everything(group: ProcessGroup = SINGLE_PROCESS) -> dict[str, np.ndarray]:
    """Return all arrays of all cases, by case, precision and name."""
    found = {}
    for name, case in cases().items():
        for precision in PRECISIONS:
            arrays = trained(*case, precision, group)
            found |= {f"{name}|{precision}|{key}": value for key, value in arrays.items()}
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    with process_group() as processes:
        arrays = everything(processes)
        if processes.is_main_process:
            np.savez(Path(sys.argv[1]), **arrays)

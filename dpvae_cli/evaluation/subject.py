"""What a metric may look at."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import final

import torch

from dpvae_cli.data import Dataset
from dpvae_cli.evaluation.finished import Finished
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.model import VAE
from dpvae_cli.recipe import Evaluation
from dpvae_cli.sampling.encodings import EncodedTraining

Progress = Callable[[str, int, int], None]
"""Hears that of a metric so many parts of so many are computed."""


def no_progress(metric: str, done: int, total: int) -> None:
    """Ignore it."""


@final
@dataclass(frozen=True)
class Subject:
    """A trained model with what its metrics need; data and encodings are read when first asked for.

    `seed` is the seed of every metric's draws; `finished` keeps the examples nll is done with.
    """

    model: VAE
    load_dataset: Callable[[], Dataset]
    encoded: EncodedTraining
    evaluation: Evaluation
    seed: int
    progress: Progress = no_progress
    finished: Finished = field(default_factory=Finished)

    @cached_property
    def dataset(self) -> Dataset:
        """Return the data set."""
        return self.load_dataset()

    @property
    def aggregate(self) -> AggregatePosterior:
        """Return q(z) over all encoded training examples."""
        return self.encoded.aggregate_posterior()

    def generator(self, *position: str | int) -> torch.Generator:
        """Return the CPU generator of one metric's draws."""
        return stream(self.seed, "evaluation", *position)

"""What a metric may look at."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import final

import torch

from dpvae_cli.data import Dataset
from dpvae_cli.data.units import Units
from dpvae_cli.evaluation import features, reference
from dpvae_cli.evaluation.feature_statistics import FeatureStatistics
from dpvae_cli.evaluation.features import Extractor, FeatureOptions
from dpvae_cli.evaluation.nll_cache import NllCache
from dpvae_cli.foundation.distributed import SINGLE_PROCESS, ProcessGroup
from dpvae_cli.foundation.memoize import memoize
from dpvae_cli.foundation.progress import report_progress
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.model import VAE
from dpvae_cli.recipe import Evaluation
from dpvae_cli.sampling.encodings import TrainingEncodings

Progress = Callable[[str, int, int], None]
"""Called with a metric, the number of computed parts, and the total."""


@final
@dataclass(frozen=True)
class EvaluationContext:
    """A trained model with what its metrics need, each part read or computed when first asked for.

    `seed` is the seed of every metric's draws; `nll_cache` keeps the examples nll is done with;
    `training_note` is the note of the data that the model was trained on.
    """

    model: VAE
    load_dataset: Callable[[], Dataset]
    encodings: TrainingEncodings
    evaluation: Evaluation
    seed: int
    progress: Progress = report_progress
    features: FeatureOptions = field(default_factory=FeatureOptions)
    nll_cache: NllCache = field(default_factory=NllCache)
    training_note: str | None = None
    group: ProcessGroup = SINGLE_PROCESS
    """Processes that measure together: each has the results, the first one writes."""
    prior_features: list[FeatureStatistics] = field(default_factory=list, init=False, repr=False)
    """Features of prior samples, one entry for each repeat, kept for the next metric."""

    @cached_property
    def dataset(self) -> Dataset:
        """Return the data set."""
        return self.load_dataset()

    @property
    def units(self) -> Units:
        """Return the units of the data the model was trained on; the model may not know them."""
        known = self.model.units
        return self.dataset.units if known.value_range is None else known

    @property
    def aggregate(self) -> AggregatePosterior:
        """Return q(z) over all encoded training examples."""
        return self.encodings.aggregate_posterior()

    @property
    def data_note(self) -> str | None:
        """Return why results do not compare with published ones: of training data and this data."""
        read = self.dataset.note if "dataset" in self.__dict__ else None
        notes = [part for note in (self.training_note, read) if note for part in note.split("; ")]
        return "; ".join(dict.fromkeys(notes)) or None

    @property
    def extractor(self) -> Extractor:
        """Return the network whose features of images are compared; looked for once."""
        return self._make_extractor()

    @cached_property
    def _make_extractor(self) -> Callable[[], Extractor]:
        return memoize(lambda: features.build(self.features, self.model.device))

    @cached_property
    def reference(self) -> FeatureStatistics:
        """Return the statistics of features that samples are compared with."""
        options = self.features
        if options.reference is not None:
            found = reference.read(options.reference)
        else:
            found = reference.of_training_images(
                self.dataset,
                self.extractor,
                self.evaluation.fid_images,
                lambda done, total: self.progress("training images", done, total),
                group=self.group,
            )
        if options.save_reference is not None and self.group.is_main_process:
            reference.write(options.save_reference, found)
        return found

    def generator(self, *position: str | int) -> torch.Generator:
        """Return the CPU generator of one metric's draws."""
        return stream(self.seed, "evaluation", *position)

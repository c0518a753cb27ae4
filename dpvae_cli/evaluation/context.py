"""What a metric is computed from, and how it builds its results."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, final

import torch
from torch import Tensor

from dpvae_cli.data import Dataset
from dpvae_cli.data.dataset import Units
from dpvae_cli.evaluation import feature_statistics, features
from dpvae_cli.evaluation.feature_statistics import FeatureStatistics
from dpvae_cli.evaluation.features import Extractor, FeatureOptions
from dpvae_cli.evaluation.metrics import find_metric
from dpvae_cli.evaluation.nll_cache import NllCache
from dpvae_cli.foundation.distributed import SINGLE_PROCESS, ProcessGroup
from dpvae_cli.foundation.memoize import memoize
from dpvae_cli.foundation.progress import report_progress
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.foundation.results import Result
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.mathematics.estimates import EstimateWithTerms, mean_with_terms
from dpvae_cli.mathematics.support import Support
from dpvae_cli.model import VAE
from dpvae_cli.recipe import Evaluation
from dpvae_cli.sampling.samples import TrainingEncodings

Progress = Callable[[str, int, int], None]
"""Called with what is computed, how many parts of it are done, and how many there are."""


@final
@dataclass(frozen=True)
class EvaluationContext:
    """A trained model and what its metrics need, each part read or computed at its first use.

    Args:
        model: in evaluation mode.
        load_dataset: reads the data.
        encodings: of the training data.
        evaluation: sizes.
        seed: of the draws of every metric.
        progress: is called during slow work.
        features: which network computes the features of images.
        nll_cache: estimates of the examples that nll is done with.
        training_note: the note of the data that the model was trained on.
        group: processes that share the work; each gets the results, the main one writes.
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
    prior_features: list[FeatureStatistics] = field(default_factory=list, init=False, repr=False)
    """Features of prior samples, one entry a repeat, shared by fid and kid."""
    support: dict[str, tuple[Support, int]] = field(default_factory=dict, init=False, repr=False)
    """Comparisons with real examples and their number a side, shared by precision and others."""

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
        """Return why results do not compare with published ones: the notes of the data."""
        read = self.dataset.note if "dataset" in self.__dict__ else None
        notes = [part for note in (self.training_note, read) if note for part in note.split("; ")]
        return "; ".join(dict.fromkeys(notes)) or None

    @property
    def extractor(self) -> Extractor:
        """Return the network whose features of images are compared; an error is remembered too."""
        return self._make_extractor()

    @cached_property
    def _make_extractor(self) -> Callable[[], Extractor]:
        return memoize(lambda: features.build_extractor(self.features, self.model.device))

    @cached_property
    def reference(self) -> FeatureStatistics:
        """Return the statistics of features that samples are compared with."""
        options = self.features
        if options.reference is not None:
            found = feature_statistics.read(options.reference)
        else:
            found = feature_statistics.of_images(
                self.dataset,
                self.extractor,
                self.evaluation.fid_images,
                lambda done, total: self.progress("training images", done, total),
                group=self.group,
            )
        if options.save_reference is not None and self.group.is_main_process:
            feature_statistics.write(options.save_reference, found)
        return found

    def result(
        self,
        name: str,
        value: float | None,
        standard_error: float | None,
        *,
        samples: int | None = None,
        split: str | None = None,
        weights: str | None = None,
        error_terms: Mapping[str, Tensor] | None = None,
        **details: Any,
    ) -> Result:
        """Return the record of one measured value.

        `name` is in `metrics.METRICS`, which has its unit; a `value` that is not defined is None,
        `samples` of None are `evaluation.samples`, and `error_terms` give the error of a difference
        of runs.
        """
        return Result(
            metric=name,
            value=value,
            standard_error=standard_error,
            unit=find_metric(name).unit,
            samples=self.evaluation.samples if samples is None else samples,
            seed=self.seed,
            split=split,
            weights=weights,
            details=details,
            error_terms=error_terms or {},
        )

    def estimate_result(self, name: str, estimate: EstimateWithTerms, **details: Any) -> Result:
        """Return the record of an estimate; details are arguments of `result`, too."""
        terms = {"value": estimate.error_terms}
        value, error = estimate.value, estimate.standard_error
        return self.result(name, value, error, error_terms=terms, **details)

    def mean_result(self, name: str, values: Tensor, **details: Any) -> Result:
        """Return the record of a mean over independent values, with its standard error."""
        return self.estimate_result(
            name, mean_with_terms(values), **{"samples": len(values), **details}
        )

    def generator(self, *position: str | int) -> torch.Generator:
        """Return the CPU generator of one metric's draws."""
        return stream(self.seed, "evaluation", *position)

"""The figures of a study: each kind draws one picture of several cells, or one of each."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, final, get_args

import numpy as np
from matplotlib.figure import Figure as Picture
from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from dpvae_cli.data import Split
from dpvae_cli.evaluation.metrics import SHORT_UNITS, Direction, find_metric, is_known
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.foundation.shapes import Codes
from dpvae_cli.foundation.spec import FROM_LIST, Spec
from dpvae_cli.plotting import samples, style, traversal
from dpvae_cli.plotting.gallery import figure5
from dpvae_cli.plotting.leakage import figure4
from dpvae_cli.plotting.moons import figure1, figure3
from dpvae_cli.plotting.trade_off import Method, PlottedMetric, trade_off
from dpvae_cli.plotting.training import TrainingCurves, training_figure
from dpvae_cli.recipe import to_dict
from dpvae_cli.runs import results_file
from dpvae_cli.runs.figure_data import (
    cached_arrays,
    gallery_data,
    leakage_data,
    portrait_data,
    with_labels,
)
from dpvae_cli.runs.loaded_run import LoadedRun
from dpvae_cli.runs.metrics_log import MetricsLog
from dpvae_cli.sampling.paths import Space
from dpvae_cli.sampling.samples import drawable, encode
from dpvae_cli.sampling.traversal import LatentTraversal, line, record, sweeps

ArrayDict = dict[str, np.ndarray]
ExamplePair = Annotated[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]], FROM_LIST]


def _has_direction(metric: str) -> str:
    """Check that a result is better one way or the other.

    Raises:
        ValueError: it is not.
    """
    if not is_known(metric) or find_metric(metric).better is Direction.NEITHER:
        raise ValueError("is not a metric with a preferred direction")
    return metric


DirectedMetric = Annotated[str, AfterValidator(_has_direction)]


class StudyFigure(Spec, ABC):
    """What all figures of a study have; `caption` goes beside the picture as a text file."""

    kind: str
    name: Annotated[str, Field(pattern=r"^[\w.-]+$")] | None = None
    """Stem of the file, without a suffix; the kind by default."""
    cells: Annotated[tuple[str, ...], FROM_LIST, Field(min_length=1)] = ("*",)
    """Patterns of the cells that are drawn, such as `"*_mnist-*"`."""
    seeds: Literal["first", "all"] = "first"
    """Of cells that differ only in the seed draw the first, or all."""
    caption: str | None = None
    """What the report writes below it; what the kind draws by default."""

    @property
    def stem(self) -> str:
        """Return the stem of the file."""
        return self.name or self.kind

    @property
    def text(self) -> str:
        """Return the caption."""
        return self.caption or CAPTIONS[self.kind]

    @abstractmethod
    def prepare(self, run: LoadedRun) -> None:
        """Make what the figure needs of a run and keep it in the run's folder."""

    @abstractmethod
    def draw(self, runs: Sequence[LoadedRun], folder: Path) -> list[Path]:
        """Draw runs that are there and return the pictures.

        Raises:
            DpvaeError: the runs cannot be drawn so.
        """


@final
class JointFigure(StudyFigure):
    """A figure that shows all runs in one picture."""

    kind: Literal["moons", "regularizers", "leakage", "samples", "training"]

    def prepare(self, run: LoadedRun) -> None:
        """Compute the run's part."""
        compute, _ = DRAWINGS[self.kind]
        compute(run, run.label)

    def draw(self, runs: Sequence[LoadedRun], folder: Path) -> list[Path]:
        """Draw all runs as one picture."""
        compute, plot = DRAWINGS[self.kind]
        data = [compute(run, label) for run, label in with_labels(runs)]
        return style.save(plot(data), folder / f"{self.stem}.png")


DRAWINGS: dict[str, tuple[Callable[[LoadedRun, str], Any], Callable[[list[Any]], Picture]]] = {
    "moons": (portrait_data, figure1),
    "regularizers": (portrait_data, figure3),
    "leakage": (leakage_data, figure4),
    "samples": (gallery_data, figure5),
    "training": (
        lambda run, label: TrainingCurves.from_records(
            MetricsLog.read(run.folder.metrics_log, strict=True),
            label,
            prior=run.recipe.prior_name,
        ),
        training_figure,
    ),
}
"""What is drawn of a run and its label, kept in the run's folder, and the picture of all runs."""


@final
class TraversalFigure(StudyFigure):
    """Figures 6 to 8: walks between test examples, and along single dimensions; a picture a cell.

    One pair is drawn with log q(z) along its line, and at latent_dim 2 with the line over q(z);
    several pairs become rows of images.
    """

    kind: Literal["traversal"] = "traversal"
    between: Annotated[tuple[ExamplePair, ...], FROM_LIST] = ((0, 1),)
    """Pairs of test examples to walk between; none, `[]`, draws the sweeps alone."""
    space: Literal["z0", "z", "both"] = "z0"
    """Where a line is straight: the generation space z0, or z; both draws the two."""
    steps: Annotated[int, Field(ge=2, le=1_000)] = 11
    """Points of each line and sweep, ends included."""
    dimensions: Annotated[int, Field(ge=0, le=4096)] = 0
    """Sweep this many dimensions, those with the largest deviation under q(z) first."""
    reach: Annotated[float, Field(ge=0, le=1e6)] = 5.0
    """How far to either side, in standard deviations under q(z) (paper: 5)."""
    centre: Annotated[int, Field(ge=0)] = 0
    """The test example whose reconstruction the sweeps begin from."""

    @model_validator(mode="after")
    def _walks_at_all(self) -> "TraversalFigure":
        if not (self.between or self.dimensions):
            raise PydanticCustomError("nothing", "between is empty and dimensions is 0: no walk")
        return self

    def prepare(self, run: LoadedRun) -> None:
        """Walk."""
        self._records(run)

    def draw(self, runs: Sequence[LoadedRun], folder: Path) -> list[Path]:
        """Draw a picture of each run; those of twins, which differ in the prior, share axes."""
        walks = [
            [
                walk | {"walk_decoded": drawable(run.model, walk["walk_decoded"])}
                for walk in self._records(run)
            ]
            for run in runs
        ]
        recipes = [to_dict(run.recipe).items() for run in runs]
        keys = [{key: value for key, value in items if "prior" not in key} for items in recipes]
        drawn: list[Path] = []
        for run, records, key in zip(runs, walks, keys, strict=True):
            twins = [w for w, k in zip(walks, keys, strict=True) if k == key and w is not records]
            # Cells' names end in the digest of their recipe, which no reader needs.
            path = folder / f"{self.stem}-{run.label.rpartition('-')[0] or run.label}.png"
            if len(records) > 1 and is_image(records[0]["walk_decoded"].shape[2:]):
                images = np.concatenate([row for each in records for row in each["walk_decoded"]])
                title = f"{run.label}: lines between test examples"
                drawn.append(samples.save_images(path, images, title=title, columns=self.steps))
                continue
            for index, (walk, *others) in enumerate(zip(records, *twins, strict=True)):
                number = f"-{index}" if len(records) > 1 else ""
                target = path.with_name(f"{path.stem}{number}{path.suffix}")
                drawn += style.save(traversal.figure(walk, run.label, twins=others), target)
        return drawn

    def _records(self, run: LoadedRun) -> list[ArrayDict]:
        """Return a record of each pair, the sweeps with the first; kept in traversals/."""
        key = self.model_dump_json(exclude={"name", "cells", "seeds", "caption"})
        return [
            cached_arrays(
                run,
                f"traversals/{self.stem}-{index}.npz",
                partial(self._record, run, pair, swept=index == 0),
                key=key,
            )
            for index, pair in enumerate(self.between or (None,))
        ]

    def _record(self, run: LoadedRun, pair: tuple[int, int] | None, *, swept: bool) -> ArrayDict:
        model, aggregate = run.model, run.encoded.aggregate_posterior()
        walks: list[LatentTraversal] = []
        if pair is not None:
            start, end = (_code(run, index) for index in pair)
            spaces: list[Space] = ["z0", "z"] if self.space == "both" else [self.space]
            walks += [
                line(model, aggregate, start, end, space=space, steps=self.steps)
                for space in spaces
            ]
        if swept and self.dimensions:
            walks += sweeps(
                model,
                aggregate,
                _code(run, self.centre),
                space="z",
                dimensions=self.dimensions,
                reach=self.reach,
                steps=self.steps,
            )
        return record(model, aggregate, walks)


def _code(run: LoadedRun, index: int) -> Codes:
    """Return the posterior mean of one test example, `(1, latent)`.

    Raises:
        UsageError: there is no such example.
    """
    test = run.load_dataset().test
    if index >= len(test):
        raise UsageError(
            f"traversal: {index} is not among the {len(test)} test examples (from 0)",
            hint="Change `between` or `centre` of the figure in the study file.",
        )
    return encode(run.model, Split(test.stored[index : index + 1])).mean


@final
class TradeOffFigure(StudyFigure):
    """A sampling metric against metrics of the representation; an arrow to each decoupled twin."""

    kind: Literal["trade_off"] = "trade_off"
    seeds: Literal["first", "all"] = "all"
    """Of cells that differ only in the seed draw the first, or the mean of all."""
    representation: Annotated[tuple[DirectedMetric, ...], FROM_LIST, Field(min_length=1)] = (
        "mig",
        "probe",
    )
    """Results of metrics that say what codes are worth, a panel each."""
    sampling: DirectedMetric = "skl"
    """The result that says how well is sampled, upwards in all style."""

    def prepare(self, run: LoadedRun) -> None:
        """Do nothing: what is drawn are the study's metrics."""

    def draw(self, runs: Sequence[LoadedRun], folder: Path) -> list[Path]:
        """Draw all runs as one picture."""
        records = [
            {each["metric"]: each for each in results_file.read_results(run).get("results", [])}
            for run in runs
        ]
        kinds: list[str] = [run.recipe.regularizer.kind for run in runs]
        names = [run.recipe.name for run in runs]
        # By regularizer, or by recipe where a regularizer has several.
        labels = kinds if len(set(zip(kinds, names, strict=True))) == len(set(kinds)) else names
        methods: dict[tuple[str, str], dict[str, list[float]]] = {}
        for run, found, label in zip(runs, records, labels, strict=True):
            values = methods.setdefault((label, run.recipe.prior_name), {})
            for metric in (*self.representation, self.sampling):
                if found.get(metric, {}).get("value") is not None:
                    values.setdefault(metric, []).append(float(found[metric]["value"]))
        drawn = trade_off(
            [Method(*key, values) for key, values in methods.items()],
            representation=[_quantity(name, records) for name in self.representation],
            sampling=_quantity(self.sampling, records),
        )
        return style.save(drawn, folder / f"{self.stem}.png")


def _quantity(metric: str, records: Sequence[dict[str, dict[str, Any]]]) -> PlottedMetric:
    known = find_metric(metric)
    units = (found[metric]["unit"] for found in records if metric in found)
    unit = next(units, "")
    return PlottedMetric(
        metric, known.title, known.better is Direction.LOWER, SHORT_UNITS.get(unit, unit)
    )


AnyFigure = JointFigure | TraversalFigure | TradeOffFigure
KINDS: dict[str, type[StudyFigure]] = {
    kind: spec
    for spec in get_args(AnyFigure)
    for kind in get_args(spec.model_fields["kind"].annotation)
}
CAPTIONS = {
    "moons": "Figure 1: samples, and the low-posterior fifth in all three spaces, a row a cell.",
    "regularizers": "Figure 3: a block a cell, twins side by side.",
    "leakage": "Figure 4: the leakage score against its threshold, a curve a cell.",
    "samples": "Figure 5: prior, low-posterior and high-posterior samples, a row a cell.",
    "training": "Training curves of the cells in one picture.",
    "traversal": "Figures 6 to 8: walks between test examples, and along single dimensions; "
    "a picture a cell.",
    "trade_off": "A sampling metric against metrics of the representation; an arrow to each "
    "decoupled twin.",
}

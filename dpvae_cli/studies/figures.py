"""The figures of a study: each kind draws one picture of several cells, or one of each."""

import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, final, get_args

import numpy as np
from matplotlib.figure import Figure as Picture
from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from dpvae_cli.data import Split
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.foundation.shapes import Codes
from dpvae_cli.foundation.spec import FROM_LIST, Spec
from dpvae_cli.plotting import picture, style, traversal
from dpvae_cli.plotting.gallery import figure5
from dpvae_cli.plotting.leakage import figure4
from dpvae_cli.plotting.moons import figure1
from dpvae_cli.plotting.regularizers import figure3
from dpvae_cli.plotting.trade_off import Method, Quantity, trade_off
from dpvae_cli.plotting.training import TrainingCurves
from dpvae_cli.plotting.training import figure as curves
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
from dpvae_cli.sampling.encodings import drawable, encode
from dpvae_cli.sampling.paths import Space
from dpvae_cli.sampling.traversal import LatentTraversal, line, record, sweeps
from dpvae_cli.studies.metrics import SHORT_UNITS, Better, facts, is_known

Arrays = dict[str, np.ndarray]
Pair = Annotated[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]], FROM_LIST]


def _has_direction(metric: str) -> str:
    """Refuse what is not a result, and what cannot be better or worse.

    Raises:
        ValueError: says so.
    """
    if not is_known(metric) or facts(metric).better is Better.NEITHER:
        raise ValueError("is not a result of a metric that is better higher or lower")
    return metric


Measured = Annotated[str, AfterValidator(_has_direction)]


class Figure(Spec, ABC):
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
        return self.caption or (inspect.getdoc(type(self)) or "").partition("\n")[0]

    @abstractmethod
    def prepare(self, run: LoadedRun) -> None:
        """Make what the figure needs of a run and keep it in the run's folder."""

    @abstractmethod
    def draw(self, runs: Sequence[LoadedRun], folder: Path) -> list[Path]:
        """Draw runs that are there and return the pictures.

        Raises:
            DpvaeError: the runs cannot be drawn so.
        """


def _joint(drawn: Picture, figure: Figure, folder: Path) -> list[Path]:
    return style.save(drawn, folder / f"{figure.stem}.png")


@final
class Moons(Figure):
    """Figure 1: samples, and the low-posterior fifth in all three spaces, a row a cell."""

    kind: Literal["moons"] = "moons"

    def prepare(self, run: LoadedRun) -> None:
        """Make the portrait."""
        portrait_data(run, run.label)

    def draw(self, runs: Sequence[LoadedRun], folder: Path) -> list[Path]:
        """Draw all runs as one picture."""
        portraits = [portrait_data(run, label) for run, label in with_labels(runs)]
        return _joint(figure1(portraits), self, folder)


@final
class Regularizers(Figure):
    """Figure 3: a block a cell, twins side by side."""

    kind: Literal["regularizers"] = "regularizers"

    def prepare(self, run: LoadedRun) -> None:
        """Make the portrait."""
        portrait_data(run, run.label)

    def draw(self, runs: Sequence[LoadedRun], folder: Path) -> list[Path]:
        """Draw all runs as one picture."""
        portraits = [portrait_data(run, label) for run, label in with_labels(runs)]
        return _joint(figure3(portraits), self, folder)


@final
class Leakage(Figure):
    """Figure 4: the leakage score against its threshold, a curve a cell."""

    kind: Literal["leakage"] = "leakage"

    def prepare(self, run: LoadedRun) -> None:
        """Measure `leak` where it is not there."""
        leakage_data(run, run.label)

    def draw(self, runs: Sequence[LoadedRun], folder: Path) -> list[Path]:
        """Draw all runs as one picture."""
        found = [curve for run, label in with_labels(runs) for curve in leakage_data(run, label)]
        return _joint(figure4(found), self, folder)


@final
class Samples(Figure):
    """Figure 5: prior, low-posterior and high-posterior samples, a row a cell."""

    kind: Literal["samples"] = "samples"

    def prepare(self, run: LoadedRun) -> None:
        """Draw the samples."""
        gallery_data(run, run.label)

    def draw(self, runs: Sequence[LoadedRun], folder: Path) -> list[Path]:
        """Draw all runs as one picture."""
        galleries = [gallery_data(run, label) for run, label in with_labels(runs)]
        return _joint(figure5(galleries), self, folder)


@final
class Training(Figure):
    """Training curves of the cells in one picture."""

    kind: Literal["training"] = "training"

    def prepare(self, run: LoadedRun) -> None:
        """Do nothing: metrics.jsonl is there."""

    def draw(self, runs: Sequence[LoadedRun], folder: Path) -> list[Path]:
        """Draw all runs as one picture."""
        read = [
            TrainingCurves.from_records(
                MetricsLog.read(run.folder.metrics_log, strict=True),
                label,
                prior=run.recipe.prior_name,
            )
            for run, label in with_labels(runs)
        ]
        return _joint(curves(read), self, folder)


@final
class Traversal(Figure):
    """Figures 6 to 8: walks between test examples, and along single dimensions; a picture a cell.

    One pair is drawn with log q(z) along its line, and at latent_dim 2 with the line over q(z);
    several pairs become rows of images.
    """

    kind: Literal["traversal"] = "traversal"
    between: Annotated[tuple[Pair, ...], FROM_LIST] = ((0, 1),)
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
    def _walks_at_all(self) -> "Traversal":
        if not (self.between or self.dimensions):
            raise PydanticCustomError("nothing", "between is empty and dimensions is 0: no walk")
        return self

    def prepare(self, run: LoadedRun) -> None:
        """Walk."""
        self._records(run)

    def draw(self, runs: Sequence[LoadedRun], folder: Path) -> list[Path]:
        """Draw a picture of each run; those of twins, which differ in the prior, share axes."""
        records = [self._drawable_records(run) for run in runs]
        keys = [_twin_key(run) for run in runs]
        return [
            path
            for index, run in enumerate(runs)
            for path in self._draw_one(
                run,
                records[index],
                [r for i, r in enumerate(records) if keys[i] == keys[index] and i != index],
                folder,
            )
        ]

    def _drawable_records(self, run: LoadedRun) -> list[Arrays]:
        return [
            found | {"walk_decoded": drawable(run.model, found["walk_decoded"])}
            for found in self._records(run)
        ]

    def _draw_one(
        self, run: LoadedRun, records: list[Arrays], twins: list[list[Arrays]], folder: Path
    ) -> list[Path]:
        # Cells' names end in the digest of their recipe, which no reader needs.
        path = folder / f"{self.stem}-{run.label.rpartition('-')[0] or run.label}.png"
        if len(records) > 1 and is_image(records[0]["walk_decoded"].shape[2:]):
            rows = [images for found in records for images in found["walk_decoded"]]
            title = f"{run.label}: lines between test examples"
            images = np.concatenate(rows)
            return [picture.save_images(path, images, title=title, columns=self.steps)]
        drawn = [path] if len(records) == 1 else _numbered(path, len(records))
        return [
            saved
            for record, target, *others in zip(records, drawn, *twins, strict=True)
            for saved in style.save(traversal.figure(record, run.label, twins=others), target)
        ]

    def _records(self, run: LoadedRun) -> list[Arrays]:
        """Return a record of each pair, the sweeps with the first; kept in traversals/."""
        makers: list[Callable[[], Arrays]] = [
            lambda pair=pair, index=index: self._record(run, pair, swept=index == 0)  # type: ignore[misc]
            for index, pair in enumerate(self.between or (None,))
        ]
        key = self.model_dump_json(exclude={"name", "cells", "seeds", "caption"})
        return [
            cached_arrays(run, f"traversals/{self.stem}-{index}.npz", make, key=key)
            for index, make in enumerate(makers)
        ]

    def _record(self, run: LoadedRun, pair: tuple[int, int] | None, *, swept: bool) -> Arrays:
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


def _twin_key(run: LoadedRun) -> str:
    """Return what twins share: the recipe but for its priors."""
    own = {key: value for key, value in to_dict(run.recipe).items() if "prior" not in key}
    return json.dumps(own, sort_keys=True)


def _numbered(path: Path, count: int) -> list[Path]:
    return [path.with_name(f"{path.stem}-{index}{path.suffix}") for index in range(count)]


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
class TradeOff(Figure):
    """A sampling metric against metrics of the representation; an arrow to each decoupled twin."""

    kind: Literal["trade_off"] = "trade_off"
    seeds: Literal["first", "all"] = "all"
    """Of cells that differ only in the seed draw the first, or the mean of all."""
    representation: Annotated[tuple[Measured, ...], FROM_LIST, Field(min_length=1)] = (
        "mig",
        "probe",
    )
    """Results of metrics that say what codes are worth, a panel each."""
    sampling: Measured = "skl"
    """The result that says how well is sampled, upwards in all panels."""

    def prepare(self, run: LoadedRun) -> None:
        """Do nothing: what is drawn are the study's metrics."""

    def draw(self, runs: Sequence[LoadedRun], folder: Path) -> list[Path]:
        """Draw all runs as one picture."""
        records = [(run, _recorded(run)) for run in runs]
        methods: dict[tuple[str, str], dict[str, list[float]]] = {}
        for (run, found), label in zip(records, _names(runs), strict=True):
            values = methods.setdefault((label, run.recipe.prior_name), {})
            for metric in (*self.representation, self.sampling):
                if found.get(metric, {}).get("value") is not None:
                    values.setdefault(metric, []).append(float(found[metric]["value"]))
        drawn = trade_off(
            [Method(*key, values) for key, values in methods.items()],
            representation=[_quantity(name, records) for name in self.representation],
            sampling=_quantity(self.sampling, records),
        )
        return _joint(drawn, self, folder)


def _recorded(run: LoadedRun) -> dict[str, dict[str, Any]]:
    """Return a run's results by name."""
    return {
        result["metric"]: result for result in results_file.read_results(run).get("results", [])
    }


def _names(runs: Sequence[LoadedRun]) -> list[str]:
    """Name runs by their regularizers, or by their recipes where a regularizer has several."""
    kinds: list[str] = [run.recipe.regularizer.kind for run in runs]
    names = [run.recipe.name for run in runs]
    return kinds if len(set(zip(kinds, names, strict=True))) == len(set(kinds)) else names


def _quantity(
    metric: str, records: Sequence[tuple[LoadedRun, dict[str, dict[str, Any]]]]
) -> Quantity:
    known = facts(metric)
    units = (found[metric]["unit"] for _, found in records if metric in found)
    unit = next(units, "")
    return Quantity(metric, known.title, known.better is Better.LOWER, SHORT_UNITS.get(unit, unit))


AnyFigure = Moons | Regularizers | Leakage | Samples | Training | Traversal | TradeOff
KINDS: dict[str, type[Figure]] = {
    spec.model_fields["kind"].default: spec for spec in get_args(AnyFigure)
}


def from_dict(values: dict[str, Any]) -> Figure:
    """Return the figure whose plain fields these are."""
    return KINDS[values["kind"]].model_validate(values)

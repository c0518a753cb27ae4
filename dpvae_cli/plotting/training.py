"""Curves of training: what `metrics.jsonl` recorded, a panel a quantity."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.plotting import style

LARGEST = 1e300
"""Of recorded numbers; they came from float32."""
Series = tuple[np.ndarray, np.ndarray]
"""Iterations and the values recorded there."""

_TITLES = {
    "elbo": "ELBO, nats",
    "reconstruction": "reconstruction, nats",
    "kl": "KL, nats",
    "skl": "sKL on 1,000 codes, nats",
    "active_units": "active units",
    "loss": "loss",
}
"""Of panels, in their order; terms of the loss follow."""
TRAINING: dict[str, Any] = {"linewidth": 0.9, "alpha": 0.65}
VALIDATION: dict[str, Any] = {"marker": "o", "markersize": 2.2}


@final
@dataclass(frozen=True)
class TrainingCurves(style.DrawnRun):
    """The curves of one run.

    `series` maps "train/loss", "train/elbo", "train/<term>" and "validation/<quantity>" to
    iterations and values.
    """

    series: Mapping[str, Series]

    @classmethod
    def from_records(
        cls, records: Iterable[Mapping[str, Any]], label: str, *, prior: str | None = None
    ) -> "TrainingCurves":
        """Return the curves in the records of metrics.jsonl; what is not a number becomes NaN.

        Where a resumed run records an iteration again, the later record counts.
        """
        found: dict[str, dict[int, float]] = defaultdict(dict)
        for record in records:
            recorded: dict[str, Any] = {}
            if record.get("kind") == "train":
                terms = record.get("terms")
                terms = terms if isinstance(terms, dict) else {}
                recorded = {"train/loss": record.get("loss")}
                if {"reconstruction", "kl"} <= terms.keys():
                    parts = (_number(terms[name]) for name in ("reconstruction", "kl"))
                    recorded["train/elbo"] = -sum(parts)
                recorded |= {f"train/{name}": value for name, value in terms.items()}
            if record.get("kind") == "validation":
                recorded = {
                    f"validation/{name}": record[name] for name in _TITLES if name in record
                }
            for name, value in recorded.items():
                found[name][record["iteration"]] = _number(value)
        series = {}
        for name, values in found.items():
            iterations = sorted(values)
            series[name] = (np.array(iterations), np.array([values[i] for i in iterations]))
        return cls(label, prior, series)


def _number(value: Any) -> float:
    is_number = isinstance(value, int | float) and abs(value) < LARGEST
    return float(value) if is_number else np.nan


@style.house_style()
def training_figure(runs: Sequence[TrainingCurves]) -> Figure:
    """Draw a panel a quantity: ELBO and its parts, sKL, active units, the loss and its terms.

    Training and validation of one quantity share its panel. Training values are faint with their
    running mean over them, validation has dots. The vertical window fits the last nine tenths of
    training, since the first steps are orders of magnitude away.

    Raises:
        UsageError: no run has recorded anything.
    """
    recorded = dict.fromkeys(name.partition("/")[2] for run in runs for name in run.series)
    names = [name for name in _TITLES if name in recorded]
    names += [name for name in recorded if name not in _TITLES]
    if not names:
        raise UsageError(
            "nothing to draw: no run has recorded anything yet",
            hint="Train until the first line of metrics.jsonl is written.",
        )
    columns = min(3, len(names))
    rows = ceil(len(names) / columns)
    picture = style.new_figure(style.DOUBLE_COLUMN * max(columns, 2) / 3, 1.45 * rows + 0.2)
    axes = list(picture.subplots(rows, columns, squeeze=False, sharex=True).flat)
    priors = [run.prior or style.prior_from_label(run.label) for run in runs]
    looks = style.line_styles([run.label for run in runs], priors)
    for ax, name in zip(axes, names, strict=False):
        _draw_panel(ax, name, runs=runs, looks=looks)
    for index, ax in enumerate(axes):
        ax.set_visible(index < len(names))
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        if len(names) - columns <= index < len(names):  # the lowest panel of its column
            ax.tick_params(labelbottom=True)
        if len(axes) - columns <= index < len(names):
            ax.set_xlabel("iteration")
    handles = [
        Line2D([], [], label=run.name(), **look) for run, look in zip(runs, looks, strict=True)
    ]
    if len({name.partition("/")[0] for run in runs for name in run.series}) > 1:
        for label, look in (("training, running mean", TRAINING), ("validation", VALIDATION)):
            handles.append(Line2D([], [], color=style.GREY, label=label, **look))
    style.legend_below(picture, handles)
    return picture


def _draw_panel(
    ax: Axes, name: str, *, runs: Sequence[TrainingCurves], looks: Sequence[dict[str, Any]]
) -> None:
    late = []
    for run, look in zip(runs, looks, strict=True):
        if f"train/{name}" in run.series:
            iterations, values = run.series[f"train/{name}"]
            ax.plot(iterations, values, color=look["color"], linewidth=0.5, alpha=0.2)
            values = running_mean(values)
            marker = "o" if len(values) == 1 else "None"  # a single value has no line
            ax.plot(iterations, values, marker=marker, **look | TRAINING)
            late.append(values[len(values) // 10 :])
        if f"validation/{name}" in run.series:
            iterations, values = run.series[f"validation/{name}"]
            ax.plot(iterations, values, **look | VALIDATION)
            late.append(values[len(values) // 10 :])
    known = np.concatenate(late)
    known = known[np.isfinite(known)]
    if len(known):
        low, high = np.percentile(known, [0.5, 99.5])
        room = 0.12 * (high - low) or max(0.05 * abs(high), 1e-3)
        ax.set_ylim(low - room, high + room)
    counted = name == "active_units"
    if counted:
        ax.set_ylim(0, max(1.0, ax.get_ylim()[1]))
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=counted))
    ax.set_title(_TITLES.get(name, name.replace("_", " ")), loc="left")
    style.despine(ax)


def running_mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of each value's neighbourhood, a twentieth of the curve wide, without NaN."""
    half = len(values) // 40
    padded = np.pad(values.astype(float), half, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
    known = np.isfinite(windows)
    totals = np.where(known, windows, 0).sum(axis=1)
    return np.where(np.isfinite(values), totals / np.maximum(known.sum(axis=1), 1), np.nan)

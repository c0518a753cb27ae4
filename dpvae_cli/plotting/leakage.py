"""Figure 4: the leakage score against its threshold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.plotting import style

Numbers = Sequence[float | None]
NO_LEAK = "no sample below the threshold: no leak"
CROSS: dict[str, Any] = {
    "linestyle": "", "marker": "x", "markersize": 3.5, "markeredgewidth": 1.0,
}  # fmt: skip


@final
class LeakageScores(NamedTuple):
    """LS(tau) in nats at some levels; None where no sample lies below the threshold."""

    levels: Sequence[float]
    values: Numbers
    standard_errors: Numbers

    @classmethod
    def from_details(cls, details: Mapping[str, Any]) -> "tuple[LeakageScores, LeakageScores]":
        """Return the scores of a `leak` result at thresholds, and at quantiles of log p(z).

        Raises:
            KeyError, TypeError, ValueError: these are not the details of such a result.
        """
        found = []
        for levels, kind in (("thresholds", ""), ("quantiles", "quantile_")):
            values, errors = (
                [None if value is None else float(value) for value in details[f"{kind}{name}"]]
                for name in ("values", "standard_errors")
            )
            at = [float(x) for x, _, _ in zip(details[levels], values, errors, strict=True)]
            found.append(cls(at, values, errors))
        return found[0], found[1]


@final
@dataclass(frozen=True)
class LeakageCurve(style.DrawnRun):
    """The leakage scores of one model.

    Thresholds at quantiles of the model's own log p(z) under z ~ p(z) follow the prior.
    """

    at_thresholds: LeakageScores
    at_quantiles: LeakageScores


def curve_from_metrics(document: Mapping[str, Any], label: str, *, prior: str) -> LeakageCurve:
    """Return the curve of the `leak` result in one run's metrics.json.

    Raises:
        UsageError: the result is damaged.
    """
    try:
        [leak] = [each for each in document["results"] if each["metric"] == "leak"]
        return LeakageCurve(label, prior, *LeakageScores.from_details(leak["details"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{label}: the leak entry of metrics.json is not a leakage record",
            hint="Measure it again: dpvae eval --metrics leak RUN.",
        ) from error


@style.house_style()
def figure4(curves: Sequence[LeakageCurve]) -> Figure:
    """Draw LS(tau) against tau, and against quantiles of each model's log p(z).

    Twins share a colour; the standard normal prior is dashed. Where no sample lies below a
    threshold, and so none leaks, the curve has a gap and a cross in its colour stands below.

    Source: Figure 4.

    Raises:
        UsageError: there is no curve.
    """
    if not curves:
        raise UsageError(
            "nothing to draw: no run has a leakage score", hint="Evaluate the metric `leak` first."
        )
    figure = style.new_figure(style.DOUBLE_COLUMN, 2.5)
    axes = figure.subplots(1, 2, sharey=True)
    styles = style.line_styles([c.label for c in curves], [c.prior for c in curves])
    parts = [[curve.at_thresholds, curve.at_quantiles] for curve in curves]
    for scores, look in zip(parts, styles, strict=True):
        for ax, (levels, values, errors) in zip(axes, scores, strict=True):
            # As floats None becomes NaN, where matplotlib breaks a line and leaves an error bar out
            ax.errorbar(
                np.array(levels, dtype=float),
                np.array(values, dtype=float),
                yerr=np.nan_to_num(np.array(errors, dtype=float)),
                elinewidth=0.8,
                capsize=1.5,
                **look,
                **_marker(look),
            )
    every = [value for scores in parts for part in scores for value in part.values]
    known = np.array([value for value in every if value is not None])
    if len(known) and known.min() > 0 and known.max() > 50 * known.min():
        axes[0].set_yscale("log", nonpositive="clip")
        axes[0].set_ylim(known.min() / 4, known.max() * 2)  # an error bar may reach down to 0
    for ax in axes:
        style.despine(ax)
    axes[0].set(xlabel="threshold $\\tau$ on $\\log\\,p(z)$, nats", ylabel="leakage score, nats")
    axes[1].set_xscale("log")
    levels = sorted({level for _, at_quantiles in parts for level in at_quantiles.levels})
    axes[1].xaxis.set_major_locator(FixedLocator(levels))
    axes[1].xaxis.set_major_formatter(FuncFormatter(lambda level, _: f"{100 * level:g} %"))
    axes[1].xaxis.set_minor_locator(NullLocator())
    axes[1].set_xlabel("threshold at this quantile of the model's own $\\log\\,p(z)$")
    names = [curve.name() for curve in curves]
    handles: list[Artist] = [
        Line2D([], [], label=name, **look, **_marker(look))
        for name, look in zip(names, styles, strict=True)
    ]
    if _mark_none(axes, parts, styles):
        handles.append(Line2D([], [], label=NO_LEAK, color=style.GREY, **CROSS))
    style.legend_below(figure, handles)
    return figure


def _mark_none(
    axes: np.ndarray, parts: Sequence[Sequence[LeakageScores]], styles: Sequence[dict[str, Any]]
) -> bool:
    """Mark thresholds that no sample lies below, one line of crosses per curve.

    They are in a strip below the smallest value. Returns whether there are any.
    """
    gaps = [
        [[x for x, y, _ in zip(*part, strict=True) if y is None] for part in scores]
        for scores in parts
    ]
    lines = [index for index, found in enumerate(gaps) if any(found)]
    if not lines:
        return False
    share = 0.05 * len(lines) + 0.04
    scale = axes[0].yaxis.get_transform()
    low, high = scale.transform(np.array(axes[0].get_ylim()))
    bottom = scale.inverted().transform(np.array([low - share / (1 - share) * (high - low)]))
    axes[0].set_ylim(bottom=float(bottom[0]))
    for place, index in enumerate(lines):
        for ax, found in zip(axes, gaps[index], strict=True):
            height = [0.05 * (place + 0.8)] * len(found)
            transform = ax.get_xaxis_transform()
            look = {"color": styles[index]["color"], "transform": transform, **CROSS}
            ax.plot(found, height, **look)
    return True


def _marker(look: dict[str, Any]) -> dict[str, Any]:
    if look["linestyle"] == "-":
        return {"marker": "o", "markersize": 3.2}
    return {"marker": "s", "markersize": 3.2, "markerfacecolor": "white"}

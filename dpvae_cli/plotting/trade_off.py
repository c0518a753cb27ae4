"""The trade-off of representation and sampling: an arrow from each method to its decoupled twin."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any, final

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.plotting import style

COLUMNS = 3
SIZE = 5.5
DECADE = 12.0
"""An axis whose values differ by more than this factor, all positive, is logarithmic."""
FEW_DECADES = 1e3
"""A logarithmic axis of a wider range than this has whole decades for ticks."""


@final
@dataclass(frozen=True)
class PlottedMetric:
    """What an axis shows: a metric, its words, and whether less of it is better."""

    metric: str
    title: str
    lower_is_better: bool
    unit: str = ""

    @property
    def label(self) -> str:
        """Return the words for an axis."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


@final
@dataclass(frozen=True)
class Method:
    """A method with one prior: its metrics by name, a value a seed."""

    label: str
    prior: str
    values: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def mean(self, metric: str) -> float:
        """Return the mean over seeds."""
        return float(np.mean(self.values[metric]))

    def error(self, metric: str) -> float:
        """Return the standard error over seeds, 0 for one alone."""
        found = self.values[metric]
        return float(np.std(found, ddof=1) / np.sqrt(len(found))) if len(found) > 1 else 0.0


@style.house_style()
def trade_off(
    methods: Sequence[Method], *, representation: Sequence[PlottedMetric], sampling: PlottedMetric
) -> Figure:
    """Draw a sampling metric against metrics of the representation, a panel each of these.

    Hollow marks are the standard normal prior, full ones another; an arrow leads from one to its
    twin. Axes run so that up and right are better. Bars are standard errors over seeds.

    Raises:
        UsageError: no method has both metrics of any panel.
    """
    shown = [
        (
            across,
            [m for m in methods if m.values.get(across.metric) and m.values.get(sampling.metric)],
        )
        for across in representation
    ]
    shown = [(across, found) for across, found in shown if found]
    if not shown:
        raise UsageError(
            "nothing to draw: no run has a metric of the representation and the sampling metric",
            hint=f"Measure {', '.join(q.metric for q in representation)} and {sampling.metric}.",
        )
    labels = dict.fromkeys(method.label for method in methods)
    colours = {label: style.CYCLE[i % len(style.CYCLE)] for i, label in enumerate(labels)}
    columns = min(len(shown), COLUMNS)
    rows = ceil(len(shown) / columns)
    width = style.SINGLE_COLUMN if columns == 1 else style.DOUBLE_COLUMN
    figure = style.new_figure(width, 2.55 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()
    for ax, (across, found) in zip(grid, shown, strict=False):
        _draw(ax, found, across=across, up=sampling, colours=colours)
    for ax in grid[len(shown) :]:
        ax.remove()
    _direct(figure.axes, sampling, (m.mean(sampling.metric) for _, found in shown for m in found))
    style.legend_below(figure, _handles(methods, colours))
    return figure


def _draw(
    ax: Axes,
    methods: Sequence[Method],
    *,
    across: PlottedMetric,
    up: PlottedMetric,
    colours: Mapping[str, str],
) -> None:
    for method in methods:
        ax.errorbar(
            [method.mean(across.metric)],
            [method.mean(up.metric)],
            xerr=[method.error(across.metric)],
            yerr=[method.error(up.metric)],
            ecolor=(colours[method.label], 0.4),
            elinewidth=0.7,
            zorder=3,
            **_look(method.prior, colours[method.label]),
        )
    base = {m.label: m for m in methods if m.prior == style.STANDARD_NORMAL}
    # From rim to rim: marks that all but touch cover the arrow.
    rims: dict[str, Any] = {"shrinkA": SIZE / 2 + 0.8, "shrinkB": SIZE / 2 + 0.8}
    head = "-|>,head_length=0.45,head_width=0.22"
    for method in methods:
        if method.prior != style.STANDARD_NORMAL and method.label in base:
            start, end = (
                (m.mean(across.metric), m.mean(up.metric)) for m in (base[method.label], method)
            )
            shape = {"arrowstyle": head, "color": colours[method.label], "linewidth": 1.0} | rims
            ax.annotate("", xy=end, xytext=start, arrowprops=shape | {"alpha": 0.85}, zorder=2)
    style.despine(ax)
    ax.margins(0.12)
    ax.set_xlabel(across.label)
    if across.lower_is_better:
        ax.invert_xaxis()


def _look(prior: str, colour: str) -> dict[str, Any]:
    face = "white" if prior == style.STANDARD_NORMAL else colour
    return {
        "linestyle": "",
        "marker": "o",
        "markersize": SIZE,
        "markerfacecolor": face,
        "markeredgecolor": colour,
        "markeredgewidth": 1.2,
    }


def _direct(axes: Sequence[Axes], up: PlottedMetric, values: Iterable[float]) -> None:
    """Name the common axis, let it be logarithmic where values spread far, turn it upwards."""
    known = np.array(list(values))
    if known.min() > 0 and known.max() > DECADE * known.min():
        subs = (1.0, 2.0, 5.0) if known.max() < FEW_DECADES * known.min() else (1.0,)
        for ax in axes:
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
            ax.yaxis.set_major_formatter(FuncFormatter(_number))
            ax.yaxis.set_minor_locator(NullLocator())
    if up.lower_is_better:
        axes[0].invert_yaxis()  # shared by all
    for index, ax in enumerate(axes):
        if index % COLUMNS == 0:
            ax.set_ylabel(up.label)
        ax.set_title("better $\\nearrow$", loc="right", color=style.GREY, fontsize=7)


def _number(value: float, _: object = None) -> str:
    """Return a number of few digits as it is, another as a power of ten."""
    if 1e-3 <= value < 1e5:
        return f"{value:,.10g}"
    return f"$10^{{{round(np.log10(value))}}}$"


def _handles(methods: Sequence[Method], colours: Mapping[str, str]) -> list[Artist]:
    priors = list(dict.fromkeys(method.prior for method in methods))
    priors.sort(key=lambda prior: prior != style.STANDARD_NORMAL)
    of_labels = [
        Line2D([], [], color=colour, linewidth=2.2, label=style.escape_label(label, 26))
        for label, colour in colours.items()
    ]
    of_priors = [
        Line2D(
            [],
            [],
            label=style.escape_label(style.prior_name(prior), 26),
            **_look(prior, style.GREY),
        )
        for prior in priors
    ]
    return [*of_labels, *of_priors]

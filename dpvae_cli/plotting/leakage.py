"""Figure 4: the leakage score against its threshold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
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
@dataclass(frozen=True)
class LeakageCurve:
    """LS(tau) of one model in nats; None where no sample lies below the threshold.

    The quantile fields hold the same score at thresholds that follow the prior: `quantile_levels`
    of log p(z) under z ~ p(z). They are None where a record has no such thresholds.
    """

    label: str
    prior: str
    thresholds: Sequence[float]
    values: Numbers
    standard_errors: Numbers
    quantile_levels: Sequence[float] | None = None
    quantile_values: Numbers | None = None
    quantile_standard_errors: Numbers | None = None
    title: str | None = None
    """The name in figures; None is the label with the prior in words."""


def curves_from_metrics(
    document: Mapping[str, Any], label: str, *, prior: str
) -> list[LeakageCurve]:
    """Return a curve for each `leak` result of one run's metrics.json; none where it has none.

    Raises:
        UsageError: a result is damaged.
    """
    curves = []
    try:
        for result in document.get("results", []):
            if result.get("metric") != "leak":
                continue
            details = result["details"]
            quantiles = details.get("quantiles") or None
            curves.append(
                LeakageCurve(
                    label,
                    prior,
                    [float(threshold) for threshold in details["thresholds"]],
                    _numbers(details["values"]),
                    _numbers(details["standard_errors"]),
                    quantiles and [float(level) for level in quantiles],
                    quantiles and _numbers(details["quantile_values"]),
                    quantiles and _numbers(details["quantile_standard_errors"]),
                )
            )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{label}: the leak entry of metrics.json is not a leakage record",
            hint="Measure it again: dpvae eval --metrics leak RUN.",
        ) from error
    return curves


def _numbers(values: Sequence[float | None]) -> Numbers:
    return [None if value is None else float(value) for value in values]


@style.house_style()
def figure4(curves: Sequence[LeakageCurve]) -> Figure:
    """Draw LS(tau) against tau and, where recorded, against quantiles of each model's log p(z).

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
    quantiles = any(curve.quantile_levels for curve in curves)
    width = style.DOUBLE_COLUMN if quantiles else style.SINGLE_COLUMN
    figure = style.new_figure(width, 2.5)
    axes = figure.subplots(1, 1 + quantiles, squeeze=False, sharey=True)[0]
    styles = style.line_styles([c.label for c in curves], [c.prior for c in curves])
    _draw(axes, curves, styles)
    axes[0].set(xlabel="threshold $\\tau$ on $\\log\\,p(z)$, nats", ylabel="leakage score, nats")
    if quantiles:
        levels = sorted({level for curve in curves for level in curve.quantile_levels or ()})
        axes[1].set_xscale("log")
        axes[1].xaxis.set_major_locator(FixedLocator(levels))
        axes[1].xaxis.set_major_formatter(FuncFormatter(lambda level, _: f"{100 * level:g} %"))
        axes[1].xaxis.set_minor_locator(NullLocator())
        axes[1].set_xlabel("threshold at this quantile of the model's own $\\log\\,p(z)$")
    names = [style.name(curve.label, curve.prior, title=curve.title) for curve in curves]
    handles: list[Artist] = [
        Line2D([], [], label=name, **look, **_marker(look))
        for name, look in zip(names, styles, strict=True)
    ]
    if _mark_none(axes, curves, styles):
        handles.append(Line2D([], [], label=NO_LEAK, color=style.GREY, **CROSS))
    style.legend_below(figure, handles)
    return figure


def _draw(
    axes: np.ndarray, curves: Sequence[LeakageCurve], styles: Sequence[dict[str, Any]]
) -> None:
    for curve, look in zip(curves, styles, strict=True):
        _line(axes[0], curve.thresholds, curve.values, errors=curve.standard_errors, look=look)
        if curve.quantile_levels and curve.quantile_values:
            errors = curve.quantile_standard_errors or [None] * len(curve.quantile_values)
            _line(axes[1], curve.quantile_levels, curve.quantile_values, errors=errors, look=look)
    every = [value for c in curves for value in (*c.values, *(c.quantile_values or ()))]
    known = np.array([value for value in every if value is not None])
    if len(known) and known.min() > 0 and known.max() > 50 * known.min():
        axes[0].set_yscale("log", nonpositive="clip")
        axes[0].set_ylim(known.min() / 4, known.max() * 2)  # an error bar may reach down to 0
    for ax in axes:
        style.despine(ax)


def _line(
    ax: Axes, x: Sequence[float], y: Numbers, *, errors: Numbers, look: dict[str, Any]
) -> None:
    # As floats None becomes NaN, where matplotlib breaks a line and leaves an error bar out.
    ax.errorbar(
        np.array(x, dtype=float),
        np.array(y, dtype=float),
        yerr=np.nan_to_num(np.array(errors, dtype=float)),
        elinewidth=0.8,
        capsize=1.5,
        **look,
        **_marker(look),
    )


def _mark_none(
    axes: np.ndarray, curves: Sequence[LeakageCurve], styles: Sequence[dict[str, Any]]
) -> bool:
    """Mark thresholds that no sample lies below, one line of crosses per curve.

    They are in a strip below the smallest value. Returns whether there are any.
    """
    where = [(axes[0], [(c.thresholds, c.values) for c in curves])]
    if len(axes) > 1:
        where.append(
            (axes[1], [(c.quantile_levels or (), c.quantile_values or ()) for c in curves])
        )
    gaps = [
        (ax, [[x for x, y in zip(*line, strict=True) if y is None] for line in lines])
        for ax, lines in where
    ]
    lines = [index for index in range(len(curves)) if any(found[index] for _, found in gaps)]
    if not lines:
        return False
    share = 0.05 * len(lines) + 0.04
    scale = axes[0].yaxis.get_transform()
    low, high = scale.transform(np.array(axes[0].get_ylim()))
    bottom = scale.inverted().transform(np.array([low - share / (1 - share) * (high - low)]))
    axes[0].set_ylim(bottom=float(bottom[0]))
    for ax, found in gaps:
        for place, index in enumerate(lines):
            height = [0.05 * (place + 0.8)] * len(found[index])
            transform = ax.get_xaxis_transform()
            look = {"color": styles[index]["color"], "transform": transform, **CROSS}
            ax.plot(found[index], height, **look)
    return True


def _marker(look: dict[str, Any]) -> dict[str, Any]:
    if look["linestyle"] == "-":
        return {"marker": "o", "markersize": 3.2}
    return {"marker": "s", "markersize": 3.2, "markerfacecolor": "white"}

"""Samples of tables over the data: histograms of columns, or a plot of every pair."""

from collections.abc import Sequence
from math import ceil

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from dpvae_cli.plotting import style

PAIRED = 5
"""Columns up to which every pair has its panel."""
MOST_COLUMNS = 20
DATA, SAMPLES = style.GREY, style.BLUE


def column_labels(count: int, columns: Sequence[str] | None = None) -> list[str]:
    """Return the names of columns as figures show them: x1, x2 and so on where they have none."""
    return [style.escape_label(name, 18) for name in columns or [f"x{n + 1}" for n in range(count)]]


def bins(*values: np.ndarray) -> np.ndarray:
    """Return the edges that all histograms of a column share; a stray value widens none of them."""
    known = [v[np.isfinite(v)] for v in values]
    known = [v for v in known if len(v)] or [np.zeros(1)]
    low = min(float(np.quantile(v, 0.002)) for v in known)
    high = max(float(np.quantile(v, 0.998)) for v in known)
    if high - low < 1e-9 * max(abs(high), 1.0):
        low, high = low - 0.5, high + 0.5
    count = int(np.clip(2 * np.sqrt(min(len(v) for v in known)), 10, 40))
    return np.linspace(low, high, count + 1)


def histogram(
    ax: Axes, values: np.ndarray, edges: np.ndarray, *, colour: str, filled: bool = False
) -> None:
    """Draw a density; outliers are in the outermost bins."""
    inside = np.clip(values[np.isfinite(values)], edges[0], edges[-1])
    heights = np.histogram(inside, edges)[0] / max(len(values), 1) / np.diff(edges)
    ax.stairs(heights, edges, fill=filled, color=colour, alpha=0.35 if filled else 1.0)


def short_ticks(axis: Axis) -> None:
    """Leave few ticks and short labels, with a power of ten beside the axis where they need one."""
    axis.set_major_locator(style.few(3))
    formatter = ScalarFormatter(useMathText=True)
    formatter.set_powerlimits((-2, 4))
    axis.set_major_formatter(formatter)
    axis.get_offset_text().set_fontsize(6.5)


@style.house_style()
def table_figure(
    samples: np.ndarray,
    *,
    reference: np.ndarray | None = None,
    columns: Sequence[str] | None = None,
) -> Figure:
    """Draw samples (n, D) of a table over data (m, D): every pair, or from six columns histograms.

    Of more than 20 columns the first 20 are drawn.
    """
    count = samples.shape[1]
    found = column_labels(count, columns)
    draw = _pairs if 1 < count <= PAIRED else _histograms
    drawn = draw(samples, reference, found)
    handles = [style.dot_handle(SAMPLES, "samples")]
    if reference is not None:
        handles.insert(0, style.dot_handle(DATA, "data"))
    style.legend_below(drawn, handles)
    return drawn


def _both(reference: np.ndarray | None, samples: np.ndarray, column: int) -> list[np.ndarray]:
    return [part[:, column] for part in (samples, reference) if part is not None]


def _column(ax: Axes, samples: np.ndarray, reference: np.ndarray | None, column: int) -> None:
    edges = bins(*_both(reference, samples, column))
    if reference is not None:
        histogram(ax, reference[:, column], edges, colour=DATA, filled=True)
    histogram(ax, samples[:, column], edges, colour=SAMPLES)
    ax.set(yticks=[], xlim=(edges[0], edges[-1]))
    short_ticks(ax.xaxis)


def _histograms(samples: np.ndarray, reference: np.ndarray | None, found: list[str]) -> Figure:
    shown = min(len(found), MOST_COLUMNS)
    wide = min(shown, 5)
    tall = ceil(shown / wide)
    drawn = style.new_figure(max(style.SINGLE_COLUMN, 1.4 * wide), 1.25 * tall + 0.2)
    axes = list(drawn.subplots(tall, wide, squeeze=False).flat)
    for ax in axes[shown:]:
        ax.set_visible(False)
    for column, ax in enumerate(axes[:shown]):
        _column(ax, samples, reference, column)
        ax.set_title(found[column])
    if shown < len(found):
        axes[shown - 1].set_xlabel(f"first {shown} of {len(found)} columns")
    return drawn


def _pairs(samples: np.ndarray, reference: np.ndarray | None, found: list[str]) -> Figure:
    count = len(found)
    side = min(1.5 * count, style.DOUBLE_COLUMN)
    drawn = style.new_figure(side, side)
    axes = drawn.subplots(count, count, squeeze=False)
    for row in range(count):
        for column in range(count):
            ax = axes[row, column]
            if column > row:
                ax.set_visible(False)
            elif column == row:
                _column(ax, samples, reference, column)
            else:
                both = [column, row]
                if reference is not None:
                    style.scatter_dense(ax, reference[:, both], colour=DATA, size=2.0)
                style.scatter_dense(ax, samples[:, both], colour=SAMPLES, size=3.0)
                x, y = (bins(*_both(reference, samples, each))[[0, -1]] for each in both)
                ax.set(xlim=x, ylim=y)
            ax.set_xlabel(found[column] if row == count - 1 else "")
            ax.tick_params(labelbottom=row == count - 1, labelleft=column == 0 < row)
        axes[row, 0].set_ylabel(found[row])
    for ax in (ax for row, line in enumerate(axes) for ax in line[:row]):
        short_ticks(ax.xaxis)
        short_ticks(ax.yaxis)
    return drawn

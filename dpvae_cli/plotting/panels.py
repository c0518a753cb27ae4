"""Pieces that several figures draw: density maps, point clouds, marked samples, image strips."""

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator

from dpvae_cli.plotting import style

COMMENSURATE = 8.0
"""Axes of the data whose ranges differ by more than this factor are of different units."""
DEPTH = 12.0
"""Nats below its peak at which a density map ends; deeper is as good as empty."""

OUTLINE = "#404040"
"""The colour of a prior's outline."""
LOW, HIGH = style.ORANGE, style.PURPLE
"""The colours of low- and high-posterior samples."""
HIGH_MARK = "^"


def draw_density_map(
    ax: Axes, x: np.ndarray, y: np.ndarray, *, log_density: np.ndarray
) -> AxesImage:
    """Draw a log-density, in nats below its peak and cut at `DEPTH`, as a square map.

    Args:
        ax: where to draw.
        x: (a,) evenly spaced abscissas.
        y: (b,) evenly spaced ordinates.
        log_density: (b, a), a row for each y; values that are not finite count as empty.
    """
    image = ax.imshow(
        below_peak(log_density),
        extent=(*_edges(x), *_edges(y)),
        origin="lower",
        cmap=style.DENSITY_MAP,
        vmin=-DEPTH,
        vmax=0,
        interpolation="bilinear",
    )
    square_limits(ax, *_edges(x), *_edges(y))
    return image


def below_peak(log_density: np.ndarray) -> np.ndarray:
    """Return a log-density relative to its largest finite value, clipped at -`DEPTH`."""
    finite = np.isfinite(log_density)
    peak = log_density[finite].max() if finite.any() else 0.0
    relative = np.where(finite, log_density - peak, -np.inf)
    return np.clip(relative, -DEPTH, 0)


def _edges(centres: np.ndarray) -> tuple[float, float]:
    half = (centres[-1] - centres[0]) / max(len(centres) - 1, 1) / 2
    return float(centres[0] - half), float(centres[-1] + half)


def square_limits(ax: Axes, left: float, right: float, bottom: float, top: float) -> None:
    """Show a square around this rectangle, so that panels of one row are equally large."""
    half = max(right - left, top - bottom) / 2
    x, y = (left + right) / 2, (bottom + top) / 2
    ax.set(xlim=(x - half, x + half), ylim=(y - half, y + half), aspect="equal")


def aspect(left: float, right: float, bottom: float, top: float) -> Literal["equal", "auto"]:
    """Return "equal" unless the axes differ too much in size for units of equal length."""
    wide, tall = right - left, top - bottom
    return "equal" if max(wide, tall) <= COMMENSURATE * min(wide, tall) else "auto"


def set_data_limits(ax: Axes, left: float, right: float, bottom: float, top: float) -> None:
    """Show this rectangle of the data space in a square panel, undistorted where that can be."""
    if aspect(left, right, bottom, top) == "equal":
        square_limits(ax, left, right, bottom, top)
    else:
        ax.set(xlim=(left, right), ylim=(bottom, top), aspect="auto", box_aspect=1)


def widen(ax: Axes, *clouds: np.ndarray) -> None:
    """Widen a square panel about its centre until it shows all these points."""
    points = np.concatenate(clouds)
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    centre = np.array([(left + right) / 2, (bottom + top) / 2])
    half = max((right - left) / 2, 1.12 * np.abs(points - centre).max(initial=0))
    square_limits(ax, *(centre[0] - half, centre[0] + half), *(centre[1] - half, centre[1] + half))


def share_square(axes: Iterable[Axes]) -> None:
    """Show one square, around what each of these panels shows, in all of them."""
    shown = list(axes)
    square = around(*((*ax.get_xlim(), *ax.get_ylim()) for ax in shown))
    for ax in shown:
        square_limits(ax, *square)


def dots(ax: Axes, points: np.ndarray, *, colour: str, size: float) -> None:
    """Draw points that are to be seen one by one."""
    x, y = points.T
    ax.scatter(x, y, s=size, color=colour, linewidths=0, zorder=3, rasterized=True)


def scatter_dense(ax: Axes, points: np.ndarray, *, colour: str, size: float = 1.2) -> None:
    """Draw many points as a faint texture; the fewer they are, the stronger each is."""
    alpha = float(np.clip(600 / max(len(points), 1), 0.15, 0.7))
    # A raster keeps the PDF of ten thousand points small; axes and text stay vectors.
    x, y = points.T
    ax.scatter(x, y, s=size, c=colour, alpha=alpha, linewidths=0, rasterized=True)


def marks(ax: Axes, points: np.ndarray, *, size: float = 15.0) -> None:
    """Mark high-posterior samples; the halos lie below all marks, so that none cuts another."""
    x, y = points.T
    ax.scatter(x, y, s=2.5 * size, marker=HIGH_MARK, color="white", linewidths=0, zorder=3.5)
    look: dict[str, Any] = {"marker": HIGH_MARK, "facecolor": HIGH, "edgecolor": "black"}
    ax.scatter(x, y, s=size, linewidths=0.5, zorder=4, **look)


def mark_handle() -> Artist:
    """Return the legend entry for `marks`."""
    look: dict[str, Any] = {"markerfacecolor": HIGH, "markeredgecolor": "black"}
    return Line2D([], [], linestyle="", marker=HIGH_MARK, markersize=5, markeredgewidth=0.5,
                  label="high-posterior samples", **look)  # fmt: skip


def dot_handle(colour: str, label: str) -> Artist:
    """Return a legend entry for a `scatter_dense`."""
    return Line2D([], [], linestyle="", marker="o", markersize=3.5, color=colour, label=label)


def sigma_circles(ax: Axes) -> None:
    """Draw the circles of N(0, I) at one, two and three standard deviations."""
    for radius in (1, 2, 3):
        ax.add_patch(Circle((0, 0), radius, fill=False, edgecolor=OUTLINE, linewidth=0.6))


def bounds(*clouds: np.ndarray, trim: float = 0.0, margin: float = 0.07) -> tuple[float, ...]:
    """Return (left, right, bottom, top) around 2-D points, `trim` percent of each end left out."""
    finite = [cloud[np.isfinite(cloud).all(axis=1)] for cloud in clouds]
    limits = [np.percentile(cloud, [trim, 100 - trim], axis=0) for cloud in finite if len(cloud)]
    low, high = (
        np.min(limits or [[[-1, -1]]], axis=(0, 1)),
        np.max(limits or [[[1, 1]]], axis=(0, 1)),
    )
    # of points that are all alike too, however far from zero
    room = margin * np.maximum(high - low, 1e-6 * np.maximum(1, np.abs(high)))
    low, high = low - room, high + room
    return float(low[0]), float(high[0]), float(low[1]), float(high[1])


def around(*rectangles: tuple[float, ...]) -> tuple[float, ...]:
    """Return the (left, right, bottom, top) that holds all these."""
    left, right, bottom, top = zip(*rectangles, strict=True)
    return min(left), max(right), min(bottom), max(top)


def few_ticks(axes: Iterable[Axes]) -> None:
    """Leave a handful of round numbers on both axes."""
    for axis in (axis for ax in axes for axis in (ax.xaxis, ax.yaxis)):
        axis.set_major_locator(few())


def few(intervals: int = 4) -> MaxNLocator:
    """Return what puts a handful of round numbers on an axis."""
    return MaxNLocator(intervals, steps=[1, 2, 5, 10])


def hide_ticks(ax: Axes) -> None:
    """Take the ticks away and keep the frame."""
    ax.set(xticks=[], yticks=[])


def despine(ax: Axes) -> None:
    """Keep the left and lower spine only, over a faint grid: the frame of a curve."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(visible=True)

"""Figures 1 and 3: samples, and low- and high-posterior ones in all spaces, on two moons."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, final

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.plotting import style

DATA_COLOUR = style.LIGHT_GREY
SIZE = 3.0
"""Of a low-posterior sample's dot, in points squared."""
THREE_SIGMA = -4.5
"""log p(z) below its peak at three deviations of a normal, nats."""
LOW_SHARE = 5
"""One in this many samples is a low-posterior sample, as with `evaluation.pool`."""
_TITLES = (
    "generated samples",
    "low-posterior samples\non $\\log\\,q(z)$",
    "low-posterior samples\ndecoded, over the data",
    "low-posterior samples\nover the codes",
)
_SMALL = 1.5
"""The same in Figure 3."""
_WIDE = 1 / 0.7  # data panels of Figure 3, width over height
_SPACES = (
    "data space $x$",
    "representation space $z$",
    "data space $x$",
    "generation space $z_0$",
)


@final
@dataclass(frozen=True)
class PlanarModel(style.DrawnRun):
    """What a two-dimensional model looks like, as arrays read from an .npz.

    `arrays` holds train (n, 2); samples (m, 2), sample_log_density and sample_log_q (m,), sample_z
    and sample_z0 (m, 2); codes and codes_z0 (c, 2); grid_x (a,), grid_y (b,), log_q and log_p
    (b, a); high_z, high_z0 and high_x (k, 2). Log-densities are in nats.
    """

    arrays: dict[str, np.ndarray]

    def low(self, key: str) -> np.ndarray:
        """Return the fifth of the samples whose log q(z) is lowest: the rows of `arrays[key]`."""
        log_q = self.arrays["sample_log_q"]
        return self.arrays[key][np.argsort(log_q)[: len(log_q) // LOW_SHARE]]


@style.house_style()
def figure1(models: Sequence[PlanarModel]) -> Figure:
    """Draw one row a run: its samples, and in each space where the low-posterior fifth lies.

    All runs share the axes of each space and the colours.

    Source: Figure 1.

    Raises:
        UsageError: there is no model.
    """
    rows = len(require(models))
    window = common_data_limits(models)
    is_equal = style.aspect(*window) == "equal"
    wide = (window[1] - window[0]) / (window[3] - window[2]) if is_equal else 1.0
    panel = (style.DOUBLE_COLUMN - 1.7) / (2 * wide + 2)
    height = rows * (panel + 0.1) + 1.25
    figure = style.new_figure(style.DOUBLE_COLUMN, height, compressed=True)
    axes = figure.subplots(rows, 4, squeeze=False, width_ratios=[wide, 1, wide, 1])
    norm = density_norm(models)
    for row, model in zip(axes, models, strict=True):
        points = draw_samples(row[0], model, norm=norm)
        image = draw_posterior(row[1], model)
        draw_data(row[2], model)
        draw_generation(row[3], model)
        name = model.name_on_lines(15)
        row[0].set_ylabel(name, color=style.prior_colour(model.prior))
        for ax in row[[0, 2]]:
            show_data(ax, window)
    style.share_square(axes[:, 1])
    style.share_square(axes[:, 3])
    style.few_ticks(axes.flat)
    for ax in axes[:-1].flat:
        ax.tick_params(labelbottom=False)
    for top, bottom, title, space in zip(axes[0], axes[-1], _TITLES, _SPACES, strict=True):
        top.set_title(title)
        bottom.set_xlabel(space)
    look: dict[str, Any] = {"location": "bottom", "aspect": 16, "shrink": 0.85}
    bar = figure.colorbar(points, ax=list(axes[:, 0]), extend="min", **look)
    bar.set_label("$\\log\\,p(z_0)$, nats")
    bar = figure.colorbar(image, ax=list(axes[:, 1]), **look)
    bar.set_label("nats below the peak")
    style.legend_below(figure, handles())
    return figure


def require(models: Sequence[PlanarModel]) -> Sequence[PlanarModel]:
    """Return the models.

    Raises:
        UsageError: there is none.
    """
    if not models:
        raise UsageError("nothing to draw: no run was given", hint="Name at least one run.")
    return models


def common_data_limits(models: Sequence[PlanarModel]) -> tuple[float, ...]:
    """Return one window of the data space for all runs, at least 7/10 as tall as wide.

    A stray sample does not widen it.
    """
    clouds = [model.arrays[key] for model in models for key in ("train", "high_x")]
    samples = [model.arrays["samples"] for model in models]
    whole, trimmed = style.bounds(*clouds), style.bounds(*samples, trim=0.3)
    left, right, bottom, top = style.around(whole, trimmed)
    if style.aspect(left, right, bottom, top) == "auto":
        return left, right, bottom, top
    room = max(0.0, 0.7 * (right - left) - (top - bottom)) / 2
    return left, right, bottom - room, top + room


def density_norm(models: Sequence[PlanarModel]) -> Normalize:
    """Return one colour scale for the samples' log-densities, so that columns compare."""
    values = np.concatenate([model.arrays["sample_log_density"] for model in models])
    low, high = np.percentile(values[np.isfinite(values)], [1, 100])
    return Normalize(low, high, clip=True)


def show_data(ax: Axes, limits: tuple[float, ...]) -> None:
    """Show this window of the data space, undistorted where that can be."""
    ax.set(xlim=limits[:2], ylim=limits[2:], aspect=style.aspect(*limits))


def draw_samples(ax: Axes, model: PlanarModel, *, norm: Normalize) -> PathCollection:
    """Draw decoded prior samples, the probable ones dark, over a trace of the training data."""
    arrays = model.arrays
    style.scatter_dense(ax, arrays["train"], colour=DATA_COLOUR)
    order = np.argsort(arrays["sample_log_density"])
    x, y = arrays["samples"][order].T
    return ax.scatter(
        x,
        y,
        c=arrays["sample_log_density"][order],
        cmap=style.POINTS_MAP,
        norm=norm,
        s=1.6,
        linewidths=0,
        rasterized=True,
    )


def draw_posterior(ax: Axes, model: PlanarModel, *, size: float = SIZE) -> AxesImage:
    """Draw log q(z) with the low-posterior samples and the outline of the prior."""
    arrays = model.arrays
    image = style.draw_density_map(
        ax, arrays["grid_x"], arrays["grid_y"], log_density=arrays["log_q"]
    )
    style.dots(ax, model.low("sample_z"), colour=style.LOW, size=size)
    ax.contour(
        arrays["grid_x"],
        arrays["grid_y"],
        style.below_peak(arrays["log_p"]),
        levels=[THREE_SIGMA],
        colors=style.OUTLINE,
        linewidths=0.6,
        linestyles="solid",
    )
    limits = style.bounds(arrays["codes"], arrays["high_z"], margin=0.12)
    trimmed = style.bounds(arrays["sample_z"], trim=0.1)
    style.square_limits(ax, *style.around(limits, trimmed))
    return image


def draw_data(ax: Axes, model: PlanarModel, *, size: float = SIZE) -> None:
    """Draw the training data with the decoded low-posterior samples."""
    style.scatter_dense(ax, model.arrays["train"], colour=style.GREY)
    style.dots(ax, model.low("samples"), colour=style.LOW, size=size)


def draw_generation(ax: Axes, model: PlanarModel, *, size: float = SIZE) -> None:
    """Draw codes and low-posterior samples in the generation space on the circles of N(0, I)."""
    arrays = model.arrays
    style.scatter_dense(ax, arrays["codes_z0"], colour=style.GREY)
    style.sigma_circles(ax)
    style.dots(ax, model.low("sample_z0"), colour=style.LOW, size=size)
    reach = max(3.4, float(np.quantile(np.abs(arrays["codes_z0"]), 0.999)))
    style.square_limits(ax, -reach, reach, -reach, reach)


def handles() -> list[Artist]:
    """Return legend entries for what is drawn."""
    return [
        style.dot_handle(style.LOW, "fifth of the samples with the lowest $q(z)$"),
        style.dot_handle(style.GREY, "training data and their codes"),
        Line2D([], [], color=style.OUTLINE, linewidth=0.8, label="prior, out to $3\\sigma$"),
    ]


@style.house_style()
def figure3(models: Sequence[PlanarModel]) -> Figure:
    """Draw (a) samples, (b) log q(z), (c) generation space and data with marks, a block each run.

    Twins stand side by side and share the axes of the data space and of z; pairs have their own.
    The generation space of a standard normal prior is its representation space and is not shown
    twice.

    Source: Figure 3.

    Raises:
        UsageError: there is no model.
    """
    pairs = twins(require(models))
    sides = [side for side in (0, 1) if any(pair[side] for pair in pairs)]
    units = [_units(side) for side in sides]
    panel = (style.DOUBLE_COLUMN - 0.5) / sum(_units(0) + _units(1))
    width = sum(sum(ratios) * panel + 0.25 for ratios in units)
    figure = style.new_figure(width, (panel + 0.38) * len(pairs) + 0.1)
    blocks = figure.subfigures(
        len(pairs), len(sides), squeeze=False, width_ratios=list(map(sum, units)), wspace=0.02
    )
    norm = density_norm(models)
    for row, pair in zip(blocks, pairs, strict=True):
        left, right, bottom, top = common_data_limits(
            [model for model in pair if model is not None]
        )
        if style.aspect(left, right, bottom, top) == "equal":  # in the panels' own proportion
            room = max(0.0, _WIDE * (top - bottom) - (right - left)) / 2
            left, right = left - room, right + room
        limits = left, right, bottom, top
        drawn = [
            _draw_block(block, model, ratios=_units(side), norm=norm, limits=limits)
            for block, side in zip(row, sides, strict=True)
            if (model := pair[side]) is not None
        ]
        style.share_square(axes[1] for axes in drawn)
    style.legend_below(figure, [*handles(), style.mark_handle()])
    return figure


def twins(models: Sequence[PlanarModel]) -> list[tuple[PlanarModel | None, PlanarModel | None]]:
    """Return rows of (standard normal, other prior), runs of one family in one row."""
    families: dict[str, tuple[list[PlanarModel], list[PlanarModel]]] = {}
    for model in models:
        name = style.family(model.label, model.prior)
        side = int(model.prior != style.STANDARD_NORMAL)
        families.setdefault(name, ([], []))[side].append(model)
    return [pair for left, right in families.values() for pair in zip_longest(left, right)]


def _units(side: int) -> list[float]:
    """Return the widths of a block's panels in units of a latent panel's."""
    return [_WIDE, 1.0, _WIDE] if side == 0 else [_WIDE, 1.0, 1.0, _WIDE]


def _draw_block(
    block: SubFigure,
    model: PlanarModel,
    *,
    ratios: list[float],
    norm: Normalize,
    limits: tuple[float, ...],
) -> list[Axes]:
    axes = list(block.subplots(1, len(ratios), width_ratios=ratios))
    draw_samples(axes[0], model, norm=norm)
    draw_posterior(axes[1], model, size=_SMALL)
    style.marks(axes[1], model.arrays["high_z"])
    if len(axes) == 4:
        draw_generation(axes[2], model, size=_SMALL)
        style.marks(axes[2], model.arrays["high_z0"])
        style.widen(axes[2], model.arrays["high_z0"])
    draw_data(axes[-1], model, size=_SMALL)
    style.marks(axes[-1], model.arrays["high_x"])
    for ax in (axes[0], axes[-1]):
        show_data(ax, limits)
    names = ["(a) samples", "(b) $\\log\\,q(z)$", "(c) $z_0$", "(c) data"]
    if len(axes) == 3:
        del names[2]
    for ax, name in zip(axes, names, strict=True):
        style.hide_ticks(ax)
        ax.set_anchor("N")
        ax.set_xlabel(name, fontsize=7)
    title = model.name()
    colour = style.prior_colour(model.prior)
    block.suptitle(title, x=0.01, ha="left", color=colour, fontsize=8)
    return axes

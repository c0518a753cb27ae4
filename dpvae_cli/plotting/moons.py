"""Figure 1: samples, aggregate posterior, marked samples and generation space on two moons."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.plotting import panels, style

DATA_COLOUR = style.LIGHT_GREY
_ROWS = (
    "generated\nsamples",
    "aggregate posterior\n$\\log\\,q(z)$",
    "marks over\ntraining data",
    "generation space\n$z_0 = g(z)$",
)


@final
@dataclass(frozen=True)
class Portrait:
    """What a two-dimensional model looks like, as arrays read from an .npz.

    `arrays` holds train (n, 2); samples (m, 2), sample_log_density (m,), sample_z and sample_z0
    (m, 2); codes and codes_z0 (c, 2); grid_x (a,), grid_y (b,), log_q and log_p (b, a); low_z,
    low_z0, low_x, high_z, high_z0 and high_x (k, 2). Log-densities are in nats.
    """

    label: str
    prior: str
    arrays: dict[str, np.ndarray]


@style.house_style()
def figure1(portraits: Sequence[Portrait]) -> Figure:
    """Draw one column a run, as Figure 1 does: where samples fall and which pockets they come from.

    Two runs fill a single column of a page, four a double one.

    Source: Figure 1.

    Raises:
        UsageError: there is no portrait.
    """
    columns = len(require(portraits))
    width = max(2.6, 0.9 + 1.25 * columns)
    limits = data_limits(portraits)
    tall = (limits[3] - limits[2]) / (limits[1] - limits[0])
    panel = (width - 1.2 - 0.27 * (columns - 1)) / columns
    figure = style.new_figure(width, panel * (2 + 2 * tall) + 1.35, compressed=True)
    axes = figure.subplots(4, columns, squeeze=False, height_ratios=[tall, 1, tall, 1])
    points, image = _draw_columns(axes, portraits, limits)
    for row, text in zip(axes, _ROWS, strict=True):
        row[0].set_ylabel(text)
    bar = figure.colorbar(points, ax=list(axes[0]), aspect=12, extend="min")
    bar.set_label("$\\log\\,p(z_0)$")
    bar = figure.colorbar(image, ax=list(axes[1]), aspect=16, ticks=[-12, -8, -4, 0])
    bar.set_label("nats below peak")
    style.legend_below(
        figure, [*panels.mark_handles(), panels.dot_handle(DATA_COLOUR, "training data")]
    )
    return figure


def require(portraits: Sequence[Portrait]) -> Sequence[Portrait]:
    """Return the portraits.

    Raises:
        UsageError: there is none.
    """
    if not portraits:
        raise UsageError("nothing to draw: no run was given", hint="Name at least one run.")
    return portraits


def _draw_columns(
    axes: np.ndarray, portraits: Sequence[Portrait], limits: tuple[float, ...]
) -> tuple[PathCollection, AxesImage]:
    norm = density_norm(portraits)
    for column, portrait in zip(axes.T, portraits, strict=True):
        points = draw_samples(column[0], portrait, norm=norm)
        image = draw_posterior(column[1], portrait)
        draw_prior_contours(column[1], portrait)
        draw_data(column[2], portrait)
        draw_generation(column[3], portrait)
        column[0].set_title(
            _title(portrait),
            color=style.prior_colour(portrait.prior),
        )
        for ax in (column[0], column[2]):
            show_data(ax, limits)
    panels.few_ticks(axes.flat)
    for ax in axes[[0, 2], 1:].flat:
        ax.tick_params(labelleft=False)
    return points, image


def _title(portrait: Portrait) -> str:
    name = style.plain(style.family(portrait.label, portrait.prior), 15)
    return f"{name}\n{style.prior_name(portrait.prior)}".strip()


def data_limits(portraits: Sequence[Portrait]) -> tuple[float, ...]:
    """Return one window of the data space for all runs, at least 7/10 as tall as wide.

    A stray sample does not widen it.
    """
    clouds = [
        portrait.arrays[key] for portrait in portraits for key in ("train", "low_x", "high_x")
    ]
    samples = [portrait.arrays["samples"] for portrait in portraits]
    whole, trimmed = panels.bounds(*clouds), panels.bounds(*samples, trim=0.3)
    left, bottom = (min(whole[side], trimmed[side]) for side in (0, 2))
    right, top = (max(whole[side], trimmed[side]) for side in (1, 3))
    room = max(0.0, 0.7 * (right - left) - (top - bottom)) / 2
    return left, right, bottom - room, top + room


def density_norm(portraits: Sequence[Portrait]) -> Normalize:
    """Return one colour scale for the samples' log-densities, so that columns compare."""
    values = np.concatenate([portrait.arrays["sample_log_density"] for portrait in portraits])
    low, high = np.percentile(values[np.isfinite(values)], [1, 100])
    return Normalize(low, high, clip=True)


def show_data(ax: Axes, limits: tuple[float, ...]) -> None:
    """Show this window of the data space, undistorted."""
    ax.set(xlim=limits[:2], ylim=limits[2:], aspect="equal")


def draw_samples(ax: Axes, portrait: Portrait, *, norm: Normalize) -> PathCollection:
    """Draw decoded prior samples, the probable ones dark, over a trace of the training data."""
    arrays = portrait.arrays
    panels.cloud(ax, arrays["train"], colour=DATA_COLOUR)
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


def draw_posterior(ax: Axes, portrait: Portrait, *, size: float = 26.0) -> AxesImage:
    """Draw log q(z) with the low- and high-posterior samples."""
    arrays = portrait.arrays
    image = panels.density_map(ax, arrays["grid_x"], arrays["grid_y"], log_density=arrays["log_q"])
    panels.marks(ax, arrays["low_z"], arrays["high_z"], size=size)
    panels.widen(ax, arrays["low_z"], arrays["high_z"])
    return image


def draw_prior_contours(ax: Axes, portrait: Portrait) -> None:
    """Draw where log p(z) lies 1/2, 2 and 9/2 nats below its peak: a normal's 1, 2 and 3 sigma."""
    arrays = portrait.arrays
    ax.contour(
        arrays["grid_x"],
        arrays["grid_y"],
        panels.below_peak(arrays["log_p"]),
        levels=[-4.5, -2.0, -0.5],
        colors=style.prior_colour(portrait.prior),
        linewidths=0.5,
        linestyles="solid",
        alpha=0.8,
    )


def draw_data(ax: Axes, portrait: Portrait, *, size: float = 26.0) -> None:
    """Draw the training data with the decoded low- and high-posterior samples."""
    arrays = portrait.arrays
    panels.cloud(ax, arrays["train"], colour=style.GREY)
    panels.marks(ax, arrays["low_x"], arrays["high_x"], size=size)


def draw_generation(ax: Axes, portrait: Portrait, *, size: float = 26.0) -> None:
    """Draw the codes in the generation space against the circles of N(0, I)."""
    arrays = portrait.arrays
    panels.cloud(ax, arrays["codes_z0"], colour=style.prior_colour(portrait.prior))
    panels.sigma_circles(ax)
    panels.marks(ax, arrays["low_z0"], arrays["high_z0"], size=size)
    panels.square_limits(ax, -3.3, 3.3, -3.3, 3.3)
    panels.widen(ax, arrays["low_z0"], arrays["high_z0"])

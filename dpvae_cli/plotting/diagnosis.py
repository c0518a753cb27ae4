"""Figures of a diagnosis: both log-densities under both sides, the plane where L = 2, images."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dpvae_cli.plotting import samples, style
from dpvae_cli.plotting.style import Record

BINS = 60
REACH = 3.0
"""How far below its tail a histogram goes, in widths of the codes' or samples' own; what is lower
still stands in its first bin."""
CODES = style.GREY
TAIL: dict[str, Any] = {"color": "black", "linewidth": 0.8, "linestyle": (0, (3, 2))}


@style.house_style()
def densities(record: Record, prior: str) -> Figure:
    """Draw log q(z) of samples beside that of codes, and log p(z) of codes beside that of samples.

    `record` holds prior_log_q, codes_log_q, prior_log_p and codes_log_p (n,), and the 1 % quantiles
    tail_log_q, of codes, and tail_log_p, of samples; all in nats.
    """
    figure = style.new_figure(style.DOUBLE_COLUMN, 2.1)
    left, right = figure.subplots(1, 2)
    colour = style.prior_colour(prior)
    for ax, which, own in ((left, "log_q", "codes"), (right, "log_p", "prior")):
        # Bins from well below the tail of its own side to the largest value there.
        high, tail = float(record[f"{own}_{which}"].max()), float(record[f"tail_{which}"])
        width = max(high - tail, 1e-3)
        edges = np.linspace(tail - REACH * width, high + 0.02 * width, BINS + 1)
        for side, look in (("codes", CODES), ("prior", colour)):
            values = np.clip(record[f"{side}_{which}"], edges[0], edges[-1])
            heights = np.histogram(values, edges)[0] / max(len(values), 1)
            ax.stairs(heights, edges, fill=True, color=look, alpha=0.3)
            ax.stairs(heights, edges, color=look)
        ax.axvline(tail, **TAIL)
        style.despine(ax)
    left.set(xlabel="$\\log\\,q(z)$, nats", ylabel="share of each")
    right.set(xlabel="$\\log\\,p(z)$, nats")
    left.set_title("pockets: samples where hardly a code lies")
    right.set_title("leaks: codes where hardly a sample lies")
    style.legend_below(
        figure,
        [
            Patch(facecolor=CODES, alpha=0.6, label="codes"),
            Patch(facecolor=colour, alpha=0.6, label="samples of the prior"),
            Line2D([], [], **TAIL, label="1 % quantile; the first bin holds all that is lower"),
        ],
    )
    return figure


GRIDS = {
    "samples": "samples of the prior",
    "lowest": "lowest $\\log\\,q(z)$: {shown} of {pool} samples",
    "repaired": "samples of the fitted prior",
}
"""Titles of decoded samples, in the order of the grids."""


@style.house_style()
def grids(record: Record) -> Figure:
    """Draw decoded samples (n, c, h, w) side by side, those of `GRIDS` that `record` holds.

    Its `pool` is how many samples the lowest ones were picked from.
    """
    pictures = {key: samples.grid(record[key]) for key in GRIDS if key in record}
    width, height = style.DOUBLE_COLUMN, style.DOUBLE_COLUMN / len(GRIDS)
    figure = style.new_figure(width * len(pictures) / len(GRIDS), height)
    axes = figure.subplots(1, len(pictures), squeeze=False)[0]
    for ax, (key, picture) in zip(axes, pictures.items(), strict=True):
        style.draw_picture(ax, picture, interpolation="nearest")
        ax.set_title(GRIDS[key].format(shown=len(record[key]), pool=record["pool"]))
    return figure


@style.house_style()
def latent_plane(record: Record, prior: str) -> Figure:
    """Draw samples over log q(z), and codes over log p(z), what lies in the tails marked.

    `record` holds prior_z and codes_z (m, 2) beside the densities' arrays, of which the first m
    belong to them, and the maps grid_x (a,), grid_y (b,), log_q and log_p (b, a).
    """
    figure = style.new_figure(style.DOUBLE_COLUMN, 3.4, compressed=True)
    left, right = figure.subplots(1, 2)
    _cloud(left, record, "prior", on="log_q", colour=style.prior_colour(prior))
    _cloud(right, record, "codes", on="log_p", colour=style.LIGHT_GREY)
    left.set_title("samples on $\\log\\,q(z)$")
    right.set_title("codes on $\\log\\,p(z)$")
    style.few_ticks([left, right])
    style.legend_below(
        figure,
        [
            style.dot_handle(style.prior_colour(prior), "samples"),
            style.dot_handle(style.LIGHT_GREY, "codes"),
            style.dot_handle(style.BLACK, "below the 1 % quantile"),
        ],
    )
    return figure


def _cloud(ax: Axes, record: Record, side: str, *, on: str, colour: str) -> None:
    """Draw one side's points over the other side's density."""
    style.draw_density_map(ax, record["grid_x"], record["grid_y"], log_density=record[on])
    points = record[f"{side}_z"]
    is_low = record[f"{side}_{on}"][: len(points)] < float(record[f"tail_{on}"])
    for chosen, look in ((~is_low, colour), (is_low, style.BLACK)):
        x, y = points[chosen].T
        ax.scatter(x, y, s=3, color=look, alpha=0.6, linewidths=0)
    ax.set(xlabel="$z$[0]", ylabel="$z$[1]")

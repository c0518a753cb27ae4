"""The decoded plane: a square of points of a two-dimensional latent space, and where they lie."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.plotting import samples, style
from dpvae_cli.plotting.style import Record
from dpvae_cli.plotting.traversal import COLOURS, SYMBOLS, format_signed

_TITLES = {"z0": "$z_0$ at quantiles of $N(0, 1)$", "z": "$z$ over the box of $q(z)$"}


@style.house_style()
def figure(record: Record, label: str) -> Figure:
    """Draw each space's decoded square beside the same points on the map of log q(z).

    `record` holds for each of S spaces plane_space (S,), plane_x and plane_y (S, n), plane_z
    (S, n, n, 2) with a row for each y, plane_decoded (S, n, n, *shape), lowest_log_q (S,); the rows
    and columns as curves net_z (S, 2 n, P, 2), of points also net_decoded; and the map grid_x (a,),
    grid_y (b,), log_q (b, a).
    """
    count = len(record["plane_space"])
    drawn = style.new_figure(style.DOUBLE_COLUMN, 3.5 * count + 0.1, compressed=True)
    for index, (left, right) in enumerate(drawn.subplots(count, 2, squeeze=False)):
        _plot_decoded(left, record, index)
        style.draw_density_map(
            right, record["grid_x"], record["grid_y"], log_density=record["log_q"]
        )
        colour = COLOURS[str(record["plane_space"][index])]
        _curves(right, record["net_z"][index], points=record["plane_z"][index], colour=colour)
        right.set(xlabel="$z$[0]", ylabel="$z$[1]")
        lowest = format_signed(float(record["lowest_log_q"][index]))
        right.set_title(f"the same points on $\\log\\,q(z)$, lowest {lowest} nats")
        style.few_ticks([right])
    style.add_title(drawn, label)
    return drawn


def _plot_decoded(ax: Axes, record: Record, index: int) -> None:
    decoded, space = record["plane_decoded"][index], str(record["plane_space"][index])
    side = len(decoded)
    ax.set_title(_TITLES[space])
    if is_image(decoded.shape[2:]):
        symbol, (tall, wide) = SYMBOLS[space], decoded.shape[-2:]
        upright = decoded[::-1].reshape(-1, *decoded.shape[2:])  # the largest y on top
        ax.imshow(samples.grid(upright, side), interpolation="none")
        places = np.unique(np.rint(np.linspace(0, side - 1, min(side, 4))).astype(int))
        for axis, length, values in ((ax.xaxis, wide, "plane_x"), (ax.yaxis, tall, "plane_y")):
            rows = places if axis is ax.xaxis else side - 1 - places
            centres = (length - 1) / 2 + (length + samples.GAP) * rows
            numbers = record[values][index][places]
            axis.set_ticks(centres, [format_signed(float(number), ".2g") for number in numbers])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set(xlabel=f"{symbol}[0]", ylabel=f"{symbol}[1]")
    elif decoded.shape[2:] == (2,):
        _curves(ax, record["net_decoded"][index], points=decoded, colour=COLOURS[space])
        style.set_data_limits(ax, *style.bounds(record["net_decoded"][index].reshape(-1, 2)))
        ax.set(xlabel="$x_1$", ylabel="$x_2$")
        style.few_ticks([ax])
    else:
        table = decoded.reshape(side * side, -1)
        image = samples.heat_map(ax, table)
        ax.set(xlabel="entry", ylabel="point, row by row", box_aspect=1)
        ax.figure.colorbar(image, ax=ax).set_label("value")


def _curves(ax: Axes, curves: np.ndarray, *, points: np.ndarray, colour: str) -> None:
    """Draw the net (2 n, P, 2) and the points (n, n, 2) where its curves meet."""
    ax.add_collection(LineCollection(list(curves), colors=colour, linewidths=0.5, alpha=0.6))
    x, y = points.reshape(-1, 2).T
    ax.scatter(x, y, s=2.5, color=colour, alpha=0.8, linewidths=0)

"""Figures 6 to 8: lines between two codes, and sweeps along single dimensions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.plotting import panels, picture, samples, style, walks
from dpvae_cli.plotting.strips import strips
from dpvae_cli.plotting.walks import Record


@style.house_style()
def figure(record: Record, label: str, *, twins: Sequence[Record] = ()) -> Figure:
    """Draw walks as their examples allow: image strips, curves in the plane, or heat maps.

    The figures of `twins`, each drawn with the others as its twins, share the axes of the data
    space, the range of log q(z) along lines and the colours of values; the map of q(z) is in the
    units of each model's own codes.

    `record` holds W walks of T steps: walk_space (W,) ("z0" or "z", where it is straight),
    walk_dimension (W,) (-1 for a line), walk_standard_deviation (W,), walk_position (W, T) (of a
    sweep in standard deviations), walk_z (W, T, L), walk_decoded (W, T, *shape), walk_log_q (W, T)
    in nats; the path in finer steps, path_z (W, P, L), path_log_q (W, P), and lowest_log_q (W,);
    and for two latent dimensions the map grid_x (a,), grid_y (b,), log_q (b, a).

    Source: Figures 6, 7 and 8.

    Raises:
        UsageError: the record holds no walk.
    """
    if not len(record.get("walk_space", ())):
        raise UsageError("nothing to draw: the record holds neither a line nor a sweep")
    decoded = record["walk_decoded"]
    if picture.are_images(decoded[0]):
        return strips(record, label, twins=twins)
    every = [record, *twins]
    drawn = _plane(record, every) if decoded.shape[2:] == (2,) else _tables(record, every)
    style.title(drawn, label)
    return drawn


def _plane(record: Record, every: Sequence[Record]) -> Figure:
    """Draw examples that are points: the paths in z, in data space, and the sweeps as curves."""
    draw = [walks.draw_map] * ("log_q" in record)
    draw += [_data_paths] * bool(walks.lines(record)) + [_data_sweeps] * bool(walks.sweeps(record))
    drawn = style.new_figure(style.DOUBLE_COLUMN / 3 * max(len(draw), 2), 2.4)
    for ax, panel in zip(drawn.subplots(1, len(draw), squeeze=False)[0], draw, strict=True):
        panel(ax, record)
        if panel is not walks.draw_map:
            chosen = walks.lines if panel is _data_paths else walks.sweeps
            _square(ax, [each["walk_decoded"][chosen(each)] for each in every])
    return drawn


def _data_paths(ax: Axes, record: Record) -> None:
    """Draw the lines in data space, and say how low log q(z) goes on each."""
    found = walks.lines(record)
    for walk in found:
        points, colour = record["walk_decoded"][walk], walks.colour(record, walk)
        dots = walks.shown(len(points)).tolist()
        label = walks.line_title(record, walk)
        ax.plot(*points.T, color=colour, marker="o", markersize=2.5, markevery=dots, label=label)
        walks.stars(ax, points, named=walk == found[0])
    where: dict[str, Any] = {
        "loc": "lower center",
        "bbox_to_anchor": (0.5, 1.0),
        "borderaxespad": 0.1,
    }
    ax.legend(fontsize=6.5, handlelength=1.2, **where)  # in the title's place: nothing lies there


def _data_sweeps(ax: Axes, record: Record) -> None:
    found = walks.sweeps(record)
    for walk in found:
        points, colour = record["walk_decoded"][walk], walks.colour(record, walk)
        dots = walks.shown(len(points)).tolist()
        label = walks.sweep_name(record, walk)
        ax.plot(*points.T, color=colour, marker="o", markersize=2, markevery=dots, label=label)
        ax.plot(*points[-1:].T, color=colour, marker="o", markersize=5)
    ax.set_title("sweeps, large dot at\nthe positive end")
    where: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.25), "ncols": 2}
    ax.legend(fontsize=6.5, handlelength=1.2, **where)


def _square(ax: Axes, curves: Sequence[np.ndarray]) -> None:
    panels.data_limits(ax, *panels.bounds(*(each.reshape(-1, 2) for each in curves)))
    ax.set(xlabel="$x_1$", ylabel="$x_2$")
    panels.few_ticks([ax])


def _tables(record: Record, every: Sequence[Record]) -> Figure:
    """Draw examples of another shape as heat maps, a step of the traversal a row."""
    titles = [walks.line_title(record, walk) for walk in walks.lines(record)]
    titles += [walks.sweep_name(record, walk) for walk in walks.sweeps(record)]
    order = walks.lines(record) + walks.sweeps(record)
    blocks = [record["walk_decoded"][walk] for walk in order]
    drawn = style.new_figure(style.SINGLE_COLUMN, 1.2 * len(blocks) + 0.5)
    axes = drawn.subplots(len(blocks), 1, squeeze=False, sharex=True)[:, 0]
    low, high = (float(end([end(r["walk_decoded"]) for r in every])) for end in (np.min, np.max))
    for ax, title, block in zip(axes, titles, blocks, strict=True):
        image = samples.heat_map(ax, block.reshape(len(block), -1), vmin=low, vmax=high)
        ax.set_title(title, loc="left")
        ax.set_ylabel("step")
    axes[-1].set_xlabel("entry")
    drawn.colorbar(image, ax=list(axes), aspect=30).set_label("value")
    return drawn

"""Figures 6 to 8: a straight line between two codes, and sweeps along single dimensions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.plotting import panels, samples, style

Record = Mapping[str, np.ndarray]

_STAR: dict[str, Any] = {
    "marker": "*", "s": 75, "edgecolor": "black", "linewidths": 0.5, "zorder": 5, "clip_on": False,
}  # fmt: skip
_ENDS = (style.GREEN, style.YELLOW)


@style.house_style()
def figure(record: Record, label: str) -> Figure:
    """Draw a traversal as its examples allow: image strips, curves in the plane, or heat maps.

    `record` holds a line: space ("z0" or "z"), line_z and line_z0 (T, L), line_decoded
    (T, *shape), line_log_q (T,) in nats, start and end (flat examples); sweeps:
    sweep_dimensions (d,), sweep_offsets (T,) in standard deviations, sweep_standard_deviations
    (d,), sweep_decoded (d, T, *shape); and for two latent dimensions grid_x (a,), grid_y (b,),
    log_q (b, a). Either the line or the sweeps may be absent.

    Source: Figures 6, 7 and 8.

    Raises:
        UsageError: the record holds neither a line nor a sweep.
    """
    shape = _example_shape(record)
    if len(shape) == 3 and shape[0] in (1, 3):
        picture = _images(record)
    elif shape == (2,):
        picture = _plane(record)
    else:
        picture = _tables(record)
    picture.suptitle(style.plain(label, 60), fontsize=8, color=style.GREY)
    return picture


def _example_shape(record: Record) -> tuple[int, ...]:
    if "line_decoded" in record:
        return record["line_decoded"].shape[1:]
    if _sweeps(record):
        return record["sweep_decoded"].shape[2:]
    raise UsageError("nothing to draw: the record holds neither a line nor a sweep")


def _sweeps(record: Record) -> int:
    return len(record["sweep_dimensions"]) if "sweep_decoded" in record else 0


def _sweep_name(record: Record, index: int) -> str:
    # Brackets, since z0 is the generation space.
    deviation = record["sweep_standard_deviations"][index]
    return f"z[{record['sweep_dimensions'][index]}], sd {deviation:.2f}"


def _line_title(record: Record) -> str:
    space = "$z_0$" if str(record["space"]) == "z0" else "$z$"
    lowest = np.nanmin(record["line_log_q"])
    return f"straight line in {space}, lowest $\\log\\,q(z)$ {lowest:.1f} nats"


def _images(record: Record) -> Figure:
    """Draw strips: the line with log q(z) under it, then a row each swept dimension."""
    line, sweeps, mapped = "line_decoded" in record, _sweeps(record), "log_q" in record
    heights = [1.0, 0.75] * line + [1.0] * sweeps
    picture = style.new_figure(style.DOUBLE_COLUMN, max(0.5 * sum(heights) + 0.8, 2.3 * mapped))
    mosaic = GridSpec(
        len(heights), 1 + mapped, figure=picture, height_ratios=heights,
        width_ratios=[2.9, 1][: 1 + mapped],
    )  # fmt: skip
    axes = [picture.add_subplot(mosaic[row, 0]) for row in range(len(heights))]
    if line:
        _line_strip(axes[0], axes[1], record)
    for index in range(sweeps):
        _sweep_strip(axes[2 * line + index], record, index=index, last=index == sweeps - 1)
    if mapped:
        _map(picture.add_subplot(mosaic[:, 1]), record)
    return picture


def _strip(ax: Axes, images: np.ndarray) -> np.ndarray:
    """Draw images side by side; return the abscissas of their centres."""
    ax.imshow(samples.grid(images, len(images)), interpolation="none")
    ax.spines[:].set_visible(False)
    panels.bare(ax)
    width = images.shape[-1]
    return (width - 1) / 2 + (width + samples.GAP) * np.arange(len(images))


def _line_strip(ax: Axes, below: Axes, record: Record) -> None:
    decoded = record["line_decoded"]
    centres = _strip(ax, decoded)
    height = decoded.shape[-2]
    for centre, colour in zip(centres[[0, -1]], _ENDS, strict=True):
        ax.scatter(centre, -0.16 * height, color=colour, **_STAR)
    ax.set_title(_line_title(record), pad=9)
    below.plot(centres, record["line_log_q"], color=style.BLACK, marker="o", markersize=2.5)
    below.set(xlim=ax.get_xlim(), xticks=[], ylabel="$\\log\\,q(z)$")
    panels.open_frame(below)


def _sweep_strip(ax: Axes, record: Record, *, index: int, last: bool) -> None:
    centres = _strip(ax, record["sweep_decoded"][index])
    ax.set_ylabel(_sweep_name(record, index), rotation=0, ha="right", va="center")
    if last:
        labels = [f"{offset:+.3g}".replace("-", "−") for offset in record["sweep_offsets"]]
        ax.set_xticks(centres, labels)
        ax.tick_params(length=0)
        ax.set_xlabel("standard deviations")


def _map(ax: Axes, record: Record) -> None:
    """Draw log q(z) with the path over it."""
    x, y = record["grid_x"], record["grid_y"]
    panels.density_map(ax, x, y, log_density=record["log_q"])
    ax.set_title("$\\log\\,q(z)$")
    if "line_z" in record:
        _path(ax, record["line_z"])
        panels.widen(ax, record["line_z"])
    panels.few_ticks([ax])


def _path(ax: Axes, points: np.ndarray) -> None:
    ax.plot(*points.T, color=style.VERMILLION, marker="o", markersize=2)
    for point, colour in zip(points[[0, -1]], _ENDS, strict=True):
        ax.scatter(*point, color=colour, **_STAR)


def _plane(record: Record) -> Figure:
    """Draw examples that are points: the path in z, in data space, and the sweeps as curves."""
    draw = [_map] * ("log_q" in record) + [_data_path] * ("line_decoded" in record)
    draw += [_data_sweeps] * bool(_sweeps(record))
    picture = style.new_figure(style.DOUBLE_COLUMN / 3 * max(len(draw), 2), 2.4)
    for ax, panel in zip(picture.subplots(1, len(draw), squeeze=False)[0], draw, strict=True):
        panel(ax, record)
    return picture


def _data_path(ax: Axes, record: Record) -> None:
    points = record["line_decoded"]
    _path(ax, points)
    ax.set_title(_line_title(record))
    ax.set_aspect("equal", adjustable="datalim")
    panels.few_ticks([ax])


def _data_sweeps(ax: Axes, record: Record) -> None:
    for index, points in enumerate(record["sweep_decoded"]):
        colour = style.CYCLE[index % len(style.CYCLE)]
        ax.plot(*points.T, color=colour, marker="o", markersize=2, label=_sweep_name(record, index))
    ax.set_title("sweeps")
    ax.set_aspect("equal", adjustable="datalim")
    ax.legend()
    panels.few_ticks([ax])


def _tables(record: Record) -> Figure:
    """Draw examples of another shape as heat maps, a step of the traversal a row."""
    blocks = []
    if "line_decoded" in record:
        blocks.append((_line_title(record), record["line_decoded"]))
    for index in range(_sweeps(record)):
        blocks.append((_sweep_name(record, index), record["sweep_decoded"][index]))
    picture = style.new_figure(style.SINGLE_COLUMN, 1.2 * len(blocks) + 0.5)
    axes = picture.subplots(len(blocks), 1, squeeze=False, sharex=True)[:, 0]
    low = min(block.min() for _, block in blocks)
    high = max(block.max() for _, block in blocks)
    for ax, (title, block) in zip(axes, blocks, strict=True):
        image = samples.heat_map(ax, block.reshape(len(block), -1), vmin=low, vmax=high)
        ax.set_title(title, loc="left")
        ax.set_ylabel("step")
    axes[-1].set_xlabel("entry")
    picture.colorbar(image, ax=list(axes), aspect=30).set_label("value")
    return picture

"""Figures 6 to 8: a straight line between two codes, and sweeps along single dimensions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.plotting import panels, samples, style

Record = Mapping[str, np.ndarray]

_STAR: dict[str, Any] = {
    "marker": "*", "s": 75, "edgecolor": "black", "linewidths": 0.5, "zorder": 5, "clip_on": False,
}  # fmt: skip
_ENDS = (style.GREEN, style.YELLOW)
_MOST_TILES = 13
_LEFT = 0.95  # inches for the names of strips


@style.house_style()
def figure(record: Record, label: str) -> Figure:
    """Draw a traversal as its examples allow: image strips, curves in the plane, or heat maps.

    `record` holds a line: space ("z0" or "z"), line_z and line_z0 (T, L), line_decoded
    (T, *shape), line_log_q (T,) in nats, and the path itself, path_z (P, L), path_log_q (P,),
    in finer steps where it is there; sweeps:
    sweep_dimensions (d,), sweep_offsets (T,) in standard deviations, sweep_standard_deviations
    (d,), sweep_decoded (d, T, *shape); and for two latent dimensions grid_x (a,), grid_y (b,),
    log_q (b, a). Either the line or the sweeps may be absent.

    Source: Figures 6, 7 and 8.

    Raises:
        UsageError: the record holds neither a line nor a sweep.
    """
    shape = _example_shape(record)
    if len(shape) == 3 and shape[0] in (1, 3):
        return _images(record, label)
    picture = _plane(record) if shape == (2,) else _tables(record)
    _name(picture, label)
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


def _signed(number: float, form: str = ".1f") -> str:
    form = form if number else "g"
    return format(number, form).replace("-", "\N{MINUS SIGN}")


def _line_title(record: Record, *, between: str = ", ") -> str:
    space = "$z_0$" if str(record["space"]) == "z0" else "$z$"
    lowest = _signed(float(np.nanmin(record.get("path_log_q", record["line_log_q"]))))
    return f"straight line in {space}{between}lowest $\\log\\,q(z)$ {lowest} nats"


def _images(record: Record, label: str) -> Figure:
    """Draw strips: the line with log q(z) under it, then a row each swept dimension."""
    line, sweeps, mapped = "line_decoded" in record, _sweeps(record), "log_q" in record
    sizes = _strip_sizes(record, 4.1 if mapped else 5.95)
    needed = sum(gap + tall for gap, _, tall in sizes) + 0.22 + (0.4 if sweeps else 0.1)
    height = max(needed, 2.2 * mapped)
    width = _LEFT + max(wide for _, wide, _ in sizes) + (1.95 if mapped else 0.1)
    picture = Figure(figsize=(max(width, style.SINGLE_COLUMN), height))
    axes, edge = [], height - 0.22 - (height - needed) / 2
    for gap, wide, tall in sizes:  # laid out by hand, so that all strips stay aligned
        edge -= gap + tall
        axes.append(_place(picture, _LEFT, edge, wide, tall))
    if line:
        _line_strip(axes[0], axes[1], record, star=0.055 / sizes[0][2])
    for index in range(sweeps):
        _sweep_strip(axes[2 * line + index], record, index=index, last=index == sweeps - 1)
    if mapped:
        _map(_place(picture, width - 1.6, (height - 1.7) / 2, 1.5, 1.5), record)
    _name(picture, label, y=1 - 0.05 / height, va="top")
    return picture


def _name(picture: Figure, label: str, **place: Any) -> None:
    picture.suptitle(style.plain(label, 60), fontsize=8, color=style.GREY, **place)


def _place(picture: Figure, left: float, bottom: float, wide: float, tall: float) -> Axes:
    """Add axes at this place, in inches."""
    width, height = picture.get_size_inches()
    return picture.add_axes((left / width, bottom / height, wide / width, tall / height))


def _strip_sizes(record: Record, width: float) -> list[tuple[float, float, float]]:
    """Return (gap above, width, height) of every strip and of the line's profile, in inches."""
    sizes = []
    if "line_decoded" in record:
        wide, tall = _strip_size(record["line_decoded"], width)
        sizes = [(0.4, wide, tall), (0.07, wide, 0.42)]
    for index in range(_sweeps(record)):
        gap = 0.07 if index else 0.14
        sizes.append((gap, *_strip_size(record["sweep_decoded"][index], width)))
    return sizes


def _strip_size(images: np.ndarray, width: float) -> tuple[float, float]:
    rows, columns = images.shape[-2:]
    ratio = rows / (len(_shown(len(images))) * (columns + samples.GAP) - samples.GAP)
    wide = min(width, 0.8 / ratio)  # a few large images need not fill the page
    return wide, wide * ratio


def _shown(steps: int) -> np.ndarray:
    """Return which steps of a long traversal become images, the ends among them."""
    return np.rint(np.linspace(0, steps - 1, min(steps, _MOST_TILES))).astype(int)


def _strip(ax: Axes, images: np.ndarray) -> np.ndarray:
    """Draw images side by side; return the abscissas of their centres."""
    ax.imshow(samples.grid(images, len(images)), interpolation="none")
    ax.autoscale(enable=False)  # stars beside the images must not shrink them
    ax.spines[:].set_visible(False)
    panels.bare(ax)
    width = images.shape[-1]
    centres: np.ndarray = (width - 1) / 2 + (width + samples.GAP) * np.arange(len(images))
    return centres


def _line_strip(ax: Axes, below: Axes, record: Record, *, star: float) -> None:
    """Draw the images, a star `star` of their height above either end, and log q(z) below."""
    decoded, log_q = record["line_decoded"], record["line_log_q"]
    shown = _shown(len(decoded))
    centres = _strip(ax, decoded[shown])
    for centre, colour in zip(centres[[0, -1]], _ENDS, strict=True):
        ax.scatter(centre, 1 + star, color=colour, transform=ax.get_xaxis_transform(), **_STAR)
    ax.set_title(_line_title(record), pad=9)
    below.plot(np.interp(np.arange(len(log_q)), shown, centres), log_q, color=style.BLACK)
    below.plot(centres, log_q[shown], linestyle="", marker="o", markersize=3, color=style.BLACK)
    below.set(xlim=ax.get_xlim(), xticks=[], ylabel="$\\log\\,q(z)$")
    below.margins(y=0.2)
    below.yaxis.set_major_locator(MaxNLocator(3))
    panels.open_frame(below)


def _sweep_strip(ax: Axes, record: Record, *, index: int, last: bool) -> None:
    offsets = record["sweep_offsets"]
    shown = _shown(len(offsets))
    centres = _strip(ax, record["sweep_decoded"][index][shown])
    ax.set_ylabel(_sweep_name(record, index), rotation=0, ha="right", va="center")
    if last:
        ax.set_xticks(
            centres, [_signed(round(float(offset), 1), "+g") for offset in offsets[shown]]
        )
        ax.tick_params(length=0)
        ax.set_xlabel("standard deviations")


def _map(ax: Axes, record: Record) -> None:
    """Draw log q(z) with the path over it."""
    x, y = record["grid_x"], record["grid_y"]
    panels.density_map(ax, x, y, log_density=record["log_q"])
    ax.set_title("$\\log\\,q(z)$")
    if "line_z" in record:
        ax.plot(*record.get("path_z", record["line_z"]).T, color=style.VERMILLION)
        ax.plot(*record["line_z"].T, color=style.VERMILLION, linestyle="", marker="o", markersize=2)
        _stars(ax, record["line_z"])
        panels.widen(ax, record["line_z"])
    panels.few_ticks([ax])


def _stars(ax: Axes, points: np.ndarray) -> None:
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
    ax.plot(*points.T, color=style.LIGHT_GREY)
    steps = np.arange(len(points))
    ax.scatter(points[:, 0], points[:, 1], c=steps, cmap="viridis", s=9, linewidths=0, zorder=3)
    _stars(ax, points)
    ax.set_title(_line_title(record, between="\n"))
    ax.set_aspect("equal", adjustable="datalim")
    panels.few_ticks([ax])


def _data_sweeps(ax: Axes, record: Record) -> None:
    for index, points in enumerate(record["sweep_decoded"]):
        colour = style.CYCLE[index % len(style.CYCLE)]
        ax.plot(*points.T, color=colour, marker="o", markersize=2, label=_sweep_name(record, index))
        ax.plot(*points[-1:].T, color=colour, marker="o", markersize=5)
    ax.set_title("sweeps, large dot at\nthe positive end")
    ax.set_aspect("equal", adjustable="datalim")
    ax.legend(fontsize=7)
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

"""Walks between images as strips: a tile a step, and log q(z) under every line."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dpvae_cli.plotting import panels, samples, style, walks
from dpvae_cli.plotting.walks import Record

_LEFT = 0.95  # inches for the names of strips
_WIDEST, _BESIDE_MAP, _MAP = 5.95, 4.0, 2.05
MARGIN = 0.2
"""Room above and below a profile, as a share of its range."""
LEAST_HEIGHT = 0.1
"""Nats that a profile shows at least."""


def strips(record: Record, label: str, *, twins: Sequence[Record] = ()) -> Figure:
    """Draw a strip a walk, all aligned: lines with log q(z) under them, sweeps with their names.

    Lines have the range of log q(z) that those of `twins` need too.
    """
    mapped = "log_q" in record
    sizes = _sizes(record, _BESIDE_MAP if mapped else _WIDEST)
    needed = sum(gap + tall for gap, _, tall in sizes) + 0.22
    needed += 0.4 if walks.sweeps(record) else 0.1
    height = max(needed, 2.2 * mapped)
    width = _LEFT + max(wide for _, wide, _ in sizes) + (_MAP if mapped else 0.1)
    picture = Figure(figsize=(max(width, style.SINGLE_COLUMN), height))
    axes, edge = [], height - 0.22 - (height - needed) / 2
    for gap, wide, tall in sizes:  # laid out by hand, so that all strips stay aligned
        edge -= gap + tall
        axes.append(place(picture, _LEFT, edge, wide, tall))
    _fill(axes, record, star=0.055 / sizes[0][2], twins=twins)
    if mapped:
        walks.draw_map(place(picture, width - 1.6, (height - 1.7) / 2, 1.5, 1.5), record)
    style.title(picture, label, y=1 - 0.05 / height, va="top")
    return picture


def place(picture: Figure, left: float, bottom: float, wide: float, tall: float) -> Axes:
    """Add axes at this place, in inches."""
    width, height = picture.get_size_inches()
    return picture.add_axes((left / width, bottom / height, wide / width, tall / height))


def _sizes(record: Record, width: float) -> list[tuple[float, float, float]]:
    """Return (gap above, width, height) of every strip and of each line's profile, in inches."""
    sizes = []
    for walk in walks.lines(record):
        wide, tall = _size(record["walk_decoded"][walk], width)
        sizes += [(0.4, wide, tall), (0.07, wide, 0.42)]
    before = None
    for walk in walks.sweeps(record):
        now = walks.space(record, walk)
        sizes.append((0.07 if now == before else 0.14, *_size(record["walk_decoded"][walk], width)))
        before = now
    return sizes


def _size(images: np.ndarray, width: float) -> tuple[float, float]:
    rows, columns = images.shape[-2:]
    ratio = rows / (len(walks.shown(len(images))) * (columns + samples.GAP) - samples.GAP)
    wide = min(width, 0.8 / ratio)  # a few large images need not fill the page
    return wide, wide * ratio


def _fill(axes: list[Axes], record: Record, *, star: float, twins: Sequence[Record]) -> None:
    """Draw every walk on its axes."""
    lines, sweeps = walks.lines(record), walks.sweeps(record)
    profiles = axes[1 : 2 * len(lines) : 2]
    for walk, above, below in zip(lines, axes[: 2 * len(lines) : 2], profiles, strict=True):
        _line(above, below, record, walk=walk, star=star)
    _share_height(profiles, [_profile(each, walk) for each in twins for walk in walks.lines(each)])
    for walk, ax in zip(sweeps, axes[2 * len(lines) :], strict=True):
        _sweep(ax, record, walk=walk, last=walk == sweeps[-1])


def _profile(record: Record, walk: int) -> np.ndarray:
    """Return log q(z) wherever a profile shows it."""
    steps = record["walk_log_q"][walk]
    return np.concatenate([record["path_log_q"][walk], steps[walks.shown(len(steps))]])


def _share_height(profiles: list[Axes], others: Sequence[np.ndarray]) -> None:
    """Give all profiles the same range, and room for others, so that lines compare at a glance."""
    limits = [ax.get_ylim() for ax in profiles]
    for path in others:
        ends = float(path.min()), float(path.max())
        room = MARGIN * (ends[1] - ends[0])
        limits.append((ends[0] - room, ends[1] + room))
    low, high = (
        min((low for low, _ in limits), default=0),
        max((high for _, high in limits), default=0),
    )
    room = max(0.0, LEAST_HEIGHT - (high - low)) / 2
    for ax in profiles:
        ax.set_ylim(low - room, high + room)


def _strip(ax: Axes, images: np.ndarray) -> np.ndarray:
    """Draw images side by side; return the abscissas of their centres."""
    ax.imshow(samples.grid(images, len(images)), interpolation="none")
    ax.autoscale(enable=False)  # stars beside the images must not shrink them
    ax.spines[:].set_visible(False)
    panels.bare(ax)
    width = images.shape[-1]
    centres: np.ndarray = (width - 1) / 2 + (width + samples.GAP) * np.arange(len(images))
    return centres


def _line(ax: Axes, below: Axes, record: Record, *, walk: int, star: float) -> None:
    """Draw the images, a star `star` of their height above either end, and log q(z) below."""
    decoded, colour = record["walk_decoded"][walk], walks.colour(record, walk)
    tiles = walks.shown(len(decoded))
    centres = _strip(ax, decoded[tiles])
    where = ax.get_xaxis_transform()
    for centre, mark, word, side in zip(
        centres[[0, -1]].tolist(), walks.ENDS, walks.WORDS, (1, -1), strict=True
    ):
        walks.star(ax, centre, 1 + star, mark, transform=where)
        look: dict[str, Any] = {"ha": "left" if side > 0 else "right", "va": "center"}
        offset: dict[str, Any] = {"xytext": (5 * side, 0), "textcoords": "offset points"}
        ax.annotate(word, (centre, 1 + star), xycoords=where, fontsize=7, **offset, **look)
    ax.set_title(walks.line_title(record, walk), pad=9, color=colour)
    path = record["path_log_q"][walk]
    below.plot(np.linspace(centres[0], centres[-1], len(path)), path, color=colour)
    step_log_q = record["walk_log_q"][walk][tiles]
    below.plot(centres, step_log_q, linestyle="", marker="o", markersize=3, color=colour)
    below.set(xlim=ax.get_xlim(), xticks=[], ylabel="$\\log\\,q(z)$")
    below.margins(y=MARGIN)
    below.yaxis.set_major_locator(MaxNLocator(3))
    panels.open_frame(below)


def _sweep(ax: Axes, record: Record, *, walk: int, last: bool) -> None:
    offsets = record["walk_position"][walk]
    tiles = walks.shown(len(offsets))
    centres = _strip(ax, record["walk_decoded"][walk][tiles])
    name_look: dict[str, Any] = {"rotation": 0, "ha": "right", "va": "center"}
    on_map = "log_q" in record and not walks.lines(record)
    colour = walks.colour(record, walk) if on_map else style.BLACK
    ax.set_ylabel(walks.sweep_name(record, walk), color=colour, **name_look)
    if last:
        names = [walks.signed(round(float(offset), 1), "+g") for offset in offsets[tiles]]
        ax.set_xticks(centres, names)
        ax.tick_params(length=0)
        ax.set_xlabel("standard deviations")

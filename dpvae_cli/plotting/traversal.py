"""Figures 6 to 8: lines between two codes, and sweeps along single dimensions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.plotting import samples, style
from dpvae_cli.plotting.style import Record

COLOURS = {"z0": style.BLACK, "z": style.VERMILLION}
"""Of lines that are straight in z0, or in z."""
SWEEPS = (style.BLUE, style.ORANGE, style.PURPLE, style.GREEN, style.SKY)
SYMBOLS = {"z0": "$z_0$", "z": "$z$"}
ENDS, WORDS = (style.GREEN, style.YELLOW), ("start", "end")
_STAR: dict[str, Any] = {
    "marker": "*", "s": 75, "edgecolor": "black", "linewidths": 0.5, "zorder": 5, "clip_on": False,
}  # fmt: skip
_MOST_TILES, _FEWEST_TILES = 13, 9
_HALO: dict[str, Any] = {"color": "white", "linewidth": 2.6, "zorder": 1.9}
"""Below all lines, so that none cuts another."""
_OUTLINE = [withStroke(linewidth=2, foreground="white")]
_LEFT = 0.95  # inches for the names of strips
_WIDEST, _BESIDE_MAP, _MAP = 5.95, 4.0, 2.05
MARGIN = 0.2
"""Room above and below a profile, as a share of its range."""
LEAST_HEIGHT = 0.1
"""Nats that a profile shows at least."""


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
    if is_image(decoded.shape[2:]):
        return _strips(record, label, twins=twins)
    every = [record, *twins]
    drawn = _plane(record, every) if decoded.shape[2:] == (2,) else _tables(record, every)
    style.add_title(drawn, label)
    return drawn


def _plane(record: Record, every: Sequence[Record]) -> Figure:
    """Draw examples that are points: the paths in z, in data space, and the sweeps as curves."""
    draw = [draw_map] * ("log_q" in record)
    draw += [_data_paths] * bool(line_indices(record)) + [_data_sweeps] * bool(
        sweep_indices(record)
    )
    drawn = style.new_figure(style.DOUBLE_COLUMN / 3 * max(len(draw), 2), 2.4)
    for ax, panel in zip(drawn.subplots(1, len(draw), squeeze=False)[0], draw, strict=True):
        panel(ax, record)
        if panel is not draw_map:
            chosen = line_indices if panel is _data_paths else sweep_indices
            curves = [each["walk_decoded"][chosen(each)].reshape(-1, 2) for each in every]
            style.set_data_limits(ax, *style.bounds(*curves))
            ax.set(xlabel="$x_1$", ylabel="$x_2$")
            style.few_ticks([ax])
    return drawn


def _data_paths(ax: Axes, record: Record) -> None:
    """Draw the lines in data space, and say how low log q(z) goes on each."""
    found = line_indices(record)
    for walk in found:
        points, colour = record["walk_decoded"][walk], walk_colour(record, walk)
        dots = tile_indices(len(points)).tolist()
        label = line_title(record, walk)
        ax.plot(*points.T, color=colour, marker="o", markersize=2.5, markevery=dots, label=label)
        stars(ax, points, named=walk == found[0])
    where: dict[str, Any] = {
        "loc": "lower center",
        "bbox_to_anchor": (0.5, 1.0),
        "borderaxespad": 0.1,
    }
    ax.legend(fontsize=6.5, handlelength=1.2, **where)  # in the title's place: nothing lies there


def _data_sweeps(ax: Axes, record: Record) -> None:
    found = sweep_indices(record)
    for walk in found:
        points, colour = record["walk_decoded"][walk], walk_colour(record, walk)
        dots = tile_indices(len(points)).tolist()
        label = sweep_name(record, walk)
        ax.plot(*points.T, color=colour, marker="o", markersize=2, markevery=dots, label=label)
        ax.plot(*points[-1:].T, color=colour, marker="o", markersize=5)
    ax.set_title("sweeps, large dot at\nthe positive end")
    where: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.25), "ncols": 2}
    ax.legend(fontsize=6.5, handlelength=1.2, **where)


def _tables(record: Record, every: Sequence[Record]) -> Figure:
    """Draw examples of another shape as heat maps, a step of the traversal a row."""
    titles = [line_title(record, walk) for walk in line_indices(record)]
    titles += [sweep_name(record, walk) for walk in sweep_indices(record)]
    order = line_indices(record) + sweep_indices(record)
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


def _strips(record: Record, label: str, *, twins: Sequence[Record] = ()) -> Figure:
    """Draw a strip a walk, all aligned: lines with log q(z) under them, sweeps with their names.

    Lines have the range of log q(z) that those of `twins` need too.
    """
    mapped = "log_q" in record
    sizes = _sizes(record, _BESIDE_MAP if mapped else _WIDEST)
    needed = sum(gap + tall for gap, _, tall in sizes) + 0.22
    needed += 0.4 if sweep_indices(record) else 0.1
    height = max(needed, 2.2 * mapped)
    width = _LEFT + max(wide for _, wide, _ in sizes) + (_MAP if mapped else 0.1)
    picture = Figure(figsize=(max(width, style.SINGLE_COLUMN), height))
    axes, edge = [], height - 0.22 - (height - needed) / 2
    for gap, wide, tall in sizes:  # laid out by hand, so that all strips stay aligned
        edge -= gap + tall
        axes.append(place(picture, _LEFT, edge, wide, tall))
    lines, sweeps = line_indices(record), sweep_indices(record)
    profiles = axes[1 : 2 * len(lines) : 2]
    for walk, above, below in zip(lines, axes[: 2 * len(lines) : 2], profiles, strict=True):
        _line(above, below, record, walk=walk, star=0.055 / sizes[0][2])
    _share_height(profiles, twins)
    for walk, ax in zip(sweeps, axes[2 * len(lines) :], strict=True):
        _sweep(ax, record, walk=walk, last=walk == sweeps[-1])
    if mapped:
        draw_map(place(picture, width - 1.6, (height - 1.7) / 2, 1.5, 1.5), record)
    style.add_title(picture, label, y=1 - 0.05 / height, va="top")
    return picture


def place(picture: Figure, left: float, bottom: float, wide: float, tall: float) -> Axes:
    """Add axes at this place, in inches."""
    width, height = picture.get_size_inches()
    return picture.add_axes((left / width, bottom / height, wide / width, tall / height))


def _sizes(record: Record, width: float) -> list[tuple[float, float, float]]:
    """Return (gap above, width, height) of every strip and of each line's profile, in inches."""
    sizes = []
    for walk in line_indices(record):
        wide, tall = _size(record["walk_decoded"][walk], width)
        sizes += [(0.4, wide, tall), (0.07, wide, 0.42)]
    before = None
    for walk in sweep_indices(record):
        now = space(record, walk)
        sizes.append((0.07 if now == before else 0.14, *_size(record["walk_decoded"][walk], width)))
        before = now
    return sizes


def _size(images: np.ndarray, width: float) -> tuple[float, float]:
    rows, columns = images.shape[-2:]
    ratio = rows / (len(tile_indices(len(images))) * (columns + samples.GAP) - samples.GAP)
    wide = min(width, 0.8 / ratio)  # a few large images need not fill the page
    return wide, wide * ratio


def _share_height(profiles: list[Axes], twins: Sequence[Record]) -> None:
    """Give all profiles the same range, and room for twins, so that lines compare at a glance."""
    limits = [ax.get_ylim() for ax in profiles]
    for twin, walk in [(record, walk) for record in twins for walk in line_indices(record)]:
        steps = twin["walk_log_q"][walk]
        path = np.concatenate([twin["path_log_q"][walk], steps[tile_indices(len(steps))]])
        ends = float(path.min()), float(path.max())
        room = MARGIN * (ends[1] - ends[0])
        limits.append((ends[0] - room, ends[1] + room))
    low = min((low for low, _ in limits), default=0)
    high = max((high for _, high in limits), default=0)
    room = max(0.0, LEAST_HEIGHT - (high - low)) / 2
    for ax in profiles:
        ax.set_ylim(low - room, high + room)


def _strip(ax: Axes, images: np.ndarray) -> np.ndarray:
    """Draw images side by side; return the abscissas of their centres."""
    style.draw_picture(ax, samples.grid(images, len(images)))
    ax.autoscale(enable=False)  # stars beside the images must not shrink them
    width = images.shape[-1]
    centres: np.ndarray = (width - 1) / 2 + (width + samples.GAP) * np.arange(len(images))
    return centres


def _line(ax: Axes, below: Axes, record: Record, *, walk: int, star: float) -> None:
    """Draw the images, a star `star` of their height above either end, and log q(z) below."""
    decoded, colour = record["walk_decoded"][walk], walk_colour(record, walk)
    tiles = tile_indices(len(decoded))
    centres = _strip(ax, decoded[tiles])
    where = ax.get_xaxis_transform()
    for centre, mark, word, side in zip(
        centres[[0, -1]].tolist(), ENDS, WORDS, (1, -1), strict=True
    ):
        draw_star(ax, centre, 1 + star, mark, transform=where)
        look: dict[str, Any] = {"ha": "left" if side > 0 else "right", "va": "center"}
        offset: dict[str, Any] = {"xytext": (5 * side, 0), "textcoords": "offset points"}
        ax.annotate(word, (centre, 1 + star), xycoords=where, fontsize=7, **offset, **look)
    ax.set_title(line_title(record, walk), pad=9, color=colour)
    path = record["path_log_q"][walk]
    below.plot(np.linspace(centres[0], centres[-1], len(path)), path, color=colour)
    step_log_q = record["walk_log_q"][walk][tiles]
    below.plot(centres, step_log_q, linestyle="", marker="o", markersize=3, color=colour)
    below.set(xlim=ax.get_xlim(), xticks=[], ylabel="$\\log\\,q(z)$")
    below.margins(y=MARGIN)
    below.yaxis.set_major_locator(MaxNLocator(3))
    style.despine(below)


def _sweep(ax: Axes, record: Record, *, walk: int, last: bool) -> None:
    offsets = record["walk_position"][walk]
    tiles = tile_indices(len(offsets))
    centres = _strip(ax, record["walk_decoded"][walk][tiles])
    name_look: dict[str, Any] = {"rotation": 0, "ha": "right", "va": "center"}
    on_map = "log_q" in record and not line_indices(record)
    colour = walk_colour(record, walk) if on_map else style.BLACK
    ax.set_ylabel(sweep_name(record, walk), color=colour, **name_look)
    if last:
        names = [format_signed(round(float(offset), 1), "+g") for offset in offsets[tiles]]
        ax.set_xticks(centres, names)
        ax.tick_params(length=0)
        ax.set_xlabel("standard deviations")


def line_indices(record: Record) -> list[int]:
    """Return which walks are lines between two examples."""
    return [int(walk) for walk in np.flatnonzero(record["walk_dimension"] < 0)]


def sweep_indices(record: Record) -> list[int]:
    """Return which walks move a single coordinate."""
    return [int(walk) for walk in np.flatnonzero(record["walk_dimension"] >= 0)]


def space(record: Record, walk: int) -> str:
    """Return where a walk is straight: "z0" or "z"."""
    return str(record["walk_space"][walk])


def walk_colour(record: Record, walk: int) -> str:
    """Return the colour of a line or a sweep."""
    if record["walk_dimension"][walk] < 0:
        return COLOURS[space(record, walk)]
    return SWEEPS[sweep_indices(record).index(walk) % len(SWEEPS)]


def short_name(record: Record, walk: int) -> str:
    """Return "line in z0", or "z[3]" for a sweep."""
    symbol = SYMBOLS[space(record, walk)]
    dimension = record["walk_dimension"][walk]
    # Brackets, since z0 is the generation space.
    return f"line in {symbol}" if dimension < 0 else f"{symbol}[{dimension}]"


def sweep_name(record: Record, walk: int) -> str:
    """Return "z[3], sd 0.93"."""
    return f"{short_name(record, walk)}, sd {record['walk_standard_deviation'][walk]:.2f}"


def line_title(record: Record, walk: int, *, between: str = ", ") -> str:
    """Return where a line is straight, and the lowest log q(z) on it."""
    lowest = format_signed(float(record["lowest_log_q"][walk]))
    symbol = SYMBOLS[space(record, walk)]
    return f"straight line in {symbol}{between}lowest $\\log\\,q(z)$ {lowest} nats"


def format_signed(number: float, form: str = ".1f") -> str:
    """Return a number with a proper minus sign; zero without its fraction."""
    form = form if number else "g"
    return format(number, form).replace("-", "\N{MINUS SIGN}")


def tile_indices(steps: int) -> np.ndarray:
    """Return which steps of a long walk become tiles: evenly spaced ones where there are enough."""
    even = [n for n in range(_FEWEST_TILES, _MOST_TILES + 1) if (steps - 1) % (n - 1) == 0]
    tiles = max(even, default=_MOST_TILES)
    return np.rint(np.linspace(0, steps - 1, min(steps, tiles))).astype(int)


def draw_map(ax: Axes, record: Record) -> None:
    """Draw log q(z) with the lines over it, or where there are none the sweeps."""
    style.draw_density_map(ax, record["grid_x"], record["grid_y"], log_density=record["log_q"])
    ax.set_title("$\\log\\,q(z)$")
    found = line_indices(record)
    for walk in found or sweep_indices(record):
        ax.plot(*record["path_z"][walk].T, **_HALO)
        ax.plot(*record["path_z"][walk].T, linewidth=1.1, color=walk_colour(record, walk))
    for walk in found:
        points = record["walk_z"][walk]
        ax.plot(
            *points[tile_indices(len(points))].T, ".", markersize=3, color=walk_colour(record, walk)
        )
        stars(ax, points, named=walk == found[0])
    ax.set(xlabel="$z$[0]", ylabel="$z$[1]")
    style.few_ticks([ax])


def stars(ax: Axes, points: np.ndarray, *, named: bool) -> None:
    """Mark the first of these points in the plane and the last, `named` with their words."""
    ends = points[[0, -1]].tolist()
    to_the_right = ends[0][0] > ends[1][0]
    for (x, y), mark, word in zip(ends, ENDS, WORDS, strict=True):
        draw_star(ax, x, y, mark)
        if named:
            side = 1 if (word == WORDS[0]) == to_the_right else -1
            look: dict[str, Any] = {"ha": "left" if side > 0 else "right", "va": "center"}
            place: dict[str, Any] = {"xytext": (6 * side, 0), "textcoords": "offset points"}
            ax.annotate(word, (x, y), fontsize=7, zorder=6, path_effects=_OUTLINE, **place, **look)


def draw_star(ax: Axes, x: float, y: float, mark: str, **place: Any) -> None:
    """Draw one star."""
    ax.scatter(x, y, color=mark, **_STAR, **place)

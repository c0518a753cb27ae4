"""What every picture of walks through a latent space shares: their names, colours and the map."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from dpvae_cli.plotting import style
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


def line_indices(record: Record) -> list[int]:
    """Return which walks are lines between two examples."""
    return [int(walk) for walk in np.flatnonzero(record["walk_dimension"] < 0)]


def sweep_indices(record: Record) -> list[int]:
    """Return which walks move a single coordinate."""
    return [int(walk) for walk in np.flatnonzero(record["walk_dimension"] >= 0)]


def space(record: Record, walk: int) -> str:
    """Return where a walk is straight: "z0" or "z"."""
    return str(record["walk_space"][walk])


def colour(record: Record, walk: int) -> str:
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
    limits = ax.get_xlim(), ax.get_ylim()
    for walk in found or sweep_indices(record):
        ax.plot(*record["path_z"][walk].T, **_HALO)
        ax.plot(*record["path_z"][walk].T, linewidth=1.1, color=colour(record, walk))
    for walk in found:
        points = record["walk_z"][walk]
        ax.plot(*points[tile_indices(len(points))].T, ".", markersize=3, color=colour(record, walk))
        stars(ax, points, named=walk == found[0])
    # A sweep goes far out.
    ax.set(xlim=limits[0], ylim=limits[1], xlabel="$z$[0]", ylabel="$z$[1]")
    style.few_ticks([ax])


def stars(ax: Axes, points: np.ndarray, *, named: bool) -> None:
    """Mark the first of these points in the plane and the last, `named` with their words."""
    ends = points[[0, -1]].tolist()
    to_the_right = ends[0][0] > ends[1][0]
    for (x, y), mark, word in zip(ends, ENDS, WORDS, strict=True):
        star(ax, x, y, mark)
        if named:
            side = 1 if (word == WORDS[0]) == to_the_right else -1
            look: dict[str, Any] = {"ha": "left" if side > 0 else "right", "va": "center"}
            place: dict[str, Any] = {"xytext": (6 * side, 0), "textcoords": "offset points"}
            ax.annotate(word, (x, y), fontsize=7, zorder=6, path_effects=_OUTLINE, **place, **look)


def star(ax: Axes, x: float, y: float, mark: str, **place: Any) -> None:
    """Draw one star."""
    ax.scatter(x, y, color=mark, **_STAR, **place)

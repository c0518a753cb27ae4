"""The look that all figures share, their names and files, and pieces that several of them draw."""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from io import BytesIO
from itertools import cycle
from math import ceil
from pathlib import Path
from typing import Any, BinaryIO, Literal

import matplotlib.style
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.files import write_atomically
from dpvae_cli.foundation.kinds import kinds_in_union

Record = Mapping[str, np.ndarray]
"""Arrays of one figure, by name."""

SINGLE_COLUMN = 3.4
DOUBLE_COLUMN = 7.0
"""Widths of a journal's columns, in inches."""

# Okabe and Ito's palette, which keeps its contrasts under the common colour-vision deficiencies.
BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
PURPLE, SKY, YELLOW, BLACK = "#CC79A7", "#56B4E9", "#F0E442", "#000000"
CYCLE = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLACK)
GREY, LIGHT_GREY = "#6E6E6E", "#C8C8C8"

STANDARD_NORMAL = "standard_normal"
OLIVE, WINE, INDIGO, TEAL, SAND = "#999933", "#882255", "#332288", "#44AA99", "#DDCC77"
"""Of Paul Tol's muted scheme, which keeps its contrasts as well."""

COMMENSURATE = 8.0
"""Axes of the data whose ranges differ by more than this factor are of different units."""
DEPTH = 12.0
"""Nats below its peak at which a density map ends; deeper is as good as empty."""

OUTLINE = "#404040"
"""The colour of a prior's outline."""
LOW, HIGH = ORANGE, PURPLE
"""The colours of low- and high-posterior samples."""
HIGH_MARK = "^"


@cache
def prior_colours() -> dict[str, str]:
    """Return the colour of each kind of prior; a new kind leaves the others' as they are."""
    fixed = {STANDARD_NORMAL: VERMILLION, "decoupled": BLUE}
    others = (kind for kind in kinds_in_union("priors") if kind not in fixed)
    colours = cycle((SKY, BLACK, OLIVE, WINE, GREEN, INDIGO, TEAL, SAND))
    return fixed | dict(zip(others, colours, strict=False))


# Light to dark: paper stays white where there is no density, and marks stand out on it.
DENSITY_MAP = LinearSegmentedColormap.from_list(
    "dpvae_density", ["#ffffff", "#d3ecd0", "#7fcdb0", "#2f9a95", "#25638a", "#32296b"]
)

POINTS_MAP = LinearSegmentedColormap.from_list(
    "dpvae_points", [DENSITY_MAP(level) for level in (0.25, 0.4, 0.6, 0.8, 1.0)]
)


_SETTINGS: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "figure.labelsize": 8,
    "axes.edgecolor": LIGHT_GREY,
    "axes.linewidth": 0.7,
    "axes.titlepad": 4,
    "axes.labelpad": 2.5,
    "xtick.color": LIGHT_GREY,
    "ytick.color": LIGHT_GREY,
    "xtick.labelcolor": "#404040",
    "ytick.labelcolor": "#404040",
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.pad": 2,
    "ytick.major.pad": 2,
    "grid.color": "#E8E8E8",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.4,
    "figure.constrained_layout.w_pad": 0.03,
    "figure.constrained_layout.h_pad": 0.03,
    "pdf.fonttype": 42,
}


_LOCK = threading.RLock()


@contextmanager
def house_style() -> Iterator[None]:
    """Draw in the house style inside the block; the caller's rcParams come back after it.

    matplotlib keeps its settings in one global table, so threads that draw take turns.
    """
    with _LOCK, matplotlib.style.context(["default", _SETTINGS]):
        yield


def new_figure(width: float, height: float, *, compressed: bool = False) -> Figure:
    """Return an empty figure of this size in inches, laid out by constraints.

    A compressed layout closes the gaps between panels that keep their aspect.
    """
    return Figure(figsize=(width, height), layout="compressed" if compressed else "constrained")


def save(figure: Figure, path: Path) -> list[Path]:
    """Write `figure` as `path` (.png or .pdf), or as both beside each other without a suffix.

    Returns:
        the files written, each whole or not at all.

    Raises:
        UsageError: the suffix names another format, or the folder cannot be written to.
    """
    targets = picture_paths(path)
    for target in targets:
        write_atomically(target, partial(_render, figure, target.suffix))
    return targets


def picture_paths(path: Path) -> list[Path]:
    """Return the files that `save` would write for `path`; check this before long work.

    Raises:
        UsageError: the suffix is neither .png nor .pdf.
    """
    if not path.suffix:
        return [path.with_name(path.name + suffix) for suffix in (".png", ".pdf")]
    if path.suffix.lower() not in (".png", ".pdf"):
        raise UsageError(
            f"cannot draw {path}: no picture format is called {path.suffix!r}",
            hint="Use .png or .pdf, or leave the suffix out to get both.",
        )
    return [path]


def png(figure: Figure) -> bytes:
    """Return `figure` as the bytes of a .png, for pages that carry their pictures."""
    written = BytesIO()
    _render(figure, ".png", written)
    return written.getvalue()


@house_style()
def _render(figure: Figure, suffix: str, file: BinaryIO | BytesIO) -> None:
    if suffix.lower() == ".png":
        figure.savefig(file, format="png", dpi=200)
    else:  # without its date the same record gives the same bytes
        figure.savefig(file, format="pdf", dpi=300, metadata={"CreationDate": None})


def prior_colour(prior: str | None) -> str:
    """Return the one colour that stands for a kind of prior in every figure."""
    return prior_colours().get(prior or "", GREEN)


def prior_name(prior: str) -> str:
    """Return the words for a kind of prior: "standard normal"."""
    return prior.replace("_", " ")


def prior_from_label(label: str) -> str | None:
    """Return the prior that a run's name tells, as folders of runs do."""
    return next((prior for prior in prior_colours() if prior in label), None)


def family(label: str, prior: str | None) -> str:
    """Return the label without its prior's name: what a run shares with its twin."""
    if not prior:
        return label
    for word in (prior, prior.replace("_", " "), prior.replace("_", "-")):
        label = label.replace(word, "\n")
    return " ".join(part.strip(" -_/,.:;|()[]=+") for part in label.split("\n")).strip()


def escape_label(text: str, width: int) -> str:
    """Return `text` on one line of at most `width` characters, safe from matplotlib's own syntax.

    What is too long loses its middle, since run names differ at their ends.
    """
    text = " ".join(text.split())
    if len(text) > width:
        head = width // 2
        text = f"{text[:head]}…{text[len(text) - (width - head - 1) :]}"
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text  # legends leave such labels out


@dataclass(frozen=True)
class DrawnRun:
    """A run that a figure shows: its label, the kind of its prior, and a title in their place."""

    label: str
    prior: str | None
    title: str | None = field(default=None, kw_only=True)

    def name(self, width: int = 26) -> str:
        """Return the name in titles and legends: the title, or family and prior in words."""
        if self.title is not None:
            return escape_label(self.title, width + 20)
        if self.prior is None:
            return escape_label(self.label, width + 10)
        parts = escape_label(family(self.label, self.prior), width), prior_name(self.prior)
        return ", ".join(filter(None, parts))

    def name_on_lines(self, width: int) -> str:
        """Return the name at the side of a row: family and prior stand below each other."""
        if self.title is not None:
            return escape_label(self.title, width + 7)
        words = prior_name(self.prior or "")
        return f"{escape_label(family(self.label, self.prior), width)}\n{words}".strip()


def add_title(figure: Figure, text: str, **where: Any) -> None:
    """Write the run's name over a figure, in at most 60 characters or as many as fit."""
    room = int(figure.get_figwidth() / 0.062)
    figure.suptitle(escape_label(text, min(60, room)), fontsize=8, color=GREY, **where)


def legend_below(figure: Figure, handles: Sequence[Artist]) -> None:
    """Put one legend under the panels, in as many columns as fit, and grow the figure for it."""
    width, height = figure.get_size_inches()
    needed = [0.056 * len(str(handle.get_label())) + 0.45 for handle in handles]
    columns = next(
        count
        for count in range(len(handles), 0, -1)
        if count == 1 or sum(max(part) for part in np.array_split(needed, count)) <= width
    )
    figure.set_size_inches(width, height + 0.16 * ceil(len(handles) / columns) + 0.1)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def line_styles(labels: Sequence[str], priors: Sequence[str | None]) -> list[dict[str, Any]]:
    """Return colour and dashes of each line: twins share a colour, standard normal is dashed.

    A single pair of twins takes the priors' colours.
    """
    seen: Counter[tuple[str, str | None]] = Counter()  # a run of the same prior is not a twin
    keys = []
    for label, prior in zip(labels, priors, strict=True):
        shared = family(label, prior)
        keys.append((shared, seen[shared, prior]))
        seen[shared, prior] += 1
    order = list(dict.fromkeys(keys))
    alone = len(order) == 1 and None not in priors
    return [
        {
            "color": prior_colour(prior) if alone else CYCLE[order.index(key) % len(CYCLE)],
            "linestyle": (0, (3.5, 1.8)) if prior == STANDARD_NORMAL else "-",
        }
        for key, prior in zip(keys, priors, strict=True)
    ]


def draw_density_map(
    ax: Axes, x: np.ndarray, y: np.ndarray, *, log_density: np.ndarray
) -> AxesImage:
    """Draw a log-density, in nats below its peak and cut at `DEPTH`, as a square map.

    Args:
        ax: where to draw.
        x: (a,) evenly spaced abscissas.
        y: (b,) evenly spaced ordinates.
        log_density: (b, a), a row for each y; values that are not finite count as empty.
    """
    image = ax.imshow(
        below_peak(log_density),
        extent=(*_edges(x), *_edges(y)),
        origin="lower",
        cmap=DENSITY_MAP,
        vmin=-DEPTH,
        vmax=0,
        interpolation="bilinear",
    )
    square_limits(ax, *_edges(x), *_edges(y))
    return image


def below_peak(log_density: np.ndarray) -> np.ndarray:
    """Return a log-density relative to its largest finite value, clipped at -`DEPTH`."""
    finite = np.isfinite(log_density)
    peak = log_density[finite].max() if finite.any() else 0.0
    relative = np.where(finite, log_density - peak, -np.inf)
    return np.clip(relative, -DEPTH, 0)


def _edges(centres: np.ndarray) -> tuple[float, float]:
    half = (centres[-1] - centres[0]) / max(len(centres) - 1, 1) / 2
    return float(centres[0] - half), float(centres[-1] + half)


def square_limits(ax: Axes, left: float, right: float, bottom: float, top: float) -> None:
    """Show a square around this rectangle, so that panels of one row are equally large."""
    half = max(right - left, top - bottom) / 2
    x, y = (left + right) / 2, (bottom + top) / 2
    ax.set(xlim=(x - half, x + half), ylim=(y - half, y + half), aspect="equal")


def aspect(left: float, right: float, bottom: float, top: float) -> Literal["equal", "auto"]:
    """Return "equal" unless the axes differ too much in size for units of equal length."""
    wide, tall = right - left, top - bottom
    return "equal" if max(wide, tall) <= COMMENSURATE * min(wide, tall) else "auto"


def set_data_limits(ax: Axes, left: float, right: float, bottom: float, top: float) -> None:
    """Show this rectangle of the data space in a square panel, undistorted where that can be."""
    if aspect(left, right, bottom, top) == "equal":
        square_limits(ax, left, right, bottom, top)
    else:
        ax.set(xlim=(left, right), ylim=(bottom, top), aspect="auto", box_aspect=1)


def widen(ax: Axes, *clouds: np.ndarray) -> None:
    """Widen a square panel about its centre until it shows all these points."""
    points = np.concatenate(clouds)
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    centre = np.array([(left + right) / 2, (bottom + top) / 2])
    half = max((right - left) / 2, 1.12 * np.abs(points - centre).max(initial=0))
    square_limits(ax, *(centre[0] - half, centre[0] + half), *(centre[1] - half, centre[1] + half))


def share_square(axes: Iterable[Axes]) -> None:
    """Show one square, around what each of these panels shows, in all of them."""
    shown = list(axes)
    square = around(*((*ax.get_xlim(), *ax.get_ylim()) for ax in shown))
    for ax in shown:
        square_limits(ax, *square)


def dots(ax: Axes, points: np.ndarray, *, colour: str, size: float) -> None:
    """Draw points that are to be seen one by one."""
    x, y = points.T
    ax.scatter(x, y, s=size, color=colour, linewidths=0, zorder=3, rasterized=True)


def scatter_dense(ax: Axes, points: np.ndarray, *, colour: str, size: float = 1.2) -> None:
    """Draw many points as a faint texture; the fewer they are, the stronger each is."""
    alpha = float(np.clip(600 / max(len(points), 1), 0.15, 0.7))
    # A raster keeps the PDF of ten thousand points small; axes and text stay vectors.
    x, y = points.T
    ax.scatter(x, y, s=size, c=colour, alpha=alpha, linewidths=0, rasterized=True)


def marks(ax: Axes, points: np.ndarray, *, size: float = 15.0) -> None:
    """Mark high-posterior samples; the halos lie below all marks, so that none cuts another."""
    x, y = points.T
    ax.scatter(x, y, s=2.5 * size, marker=HIGH_MARK, color="white", linewidths=0, zorder=3.5)
    look: dict[str, Any] = {"marker": HIGH_MARK, "facecolor": HIGH, "edgecolor": "black"}
    ax.scatter(x, y, s=size, linewidths=0.5, zorder=4, **look)


def mark_handle() -> Artist:
    """Return the legend entry for `marks`."""
    look: dict[str, Any] = {"markerfacecolor": HIGH, "markeredgecolor": "black"}
    return Line2D([], [], linestyle="", marker=HIGH_MARK, markersize=5, markeredgewidth=0.5,
                  label="high-posterior samples", **look)  # fmt: skip


def dot_handle(colour: str, label: str) -> Artist:
    """Return a legend entry for a `scatter_dense`."""
    return Line2D([], [], linestyle="", marker="o", markersize=3.5, color=colour, label=label)


def sigma_circles(ax: Axes) -> None:
    """Draw the circles of N(0, I) at one, two and three standard deviations."""
    for radius in (1, 2, 3):
        ax.add_patch(Circle((0, 0), radius, fill=False, edgecolor=OUTLINE, linewidth=0.6))


def bounds(*clouds: np.ndarray, trim: float = 0.0, margin: float = 0.07) -> tuple[float, ...]:
    """Return (left, right, bottom, top) around 2-D points, `trim` percent of each end left out."""
    finite = [cloud[np.isfinite(cloud).all(axis=1)] for cloud in clouds]
    limits = [np.percentile(cloud, [trim, 100 - trim], axis=0) for cloud in finite if len(cloud)]
    low, high = (
        np.min(limits or [[[-1, -1]]], axis=(0, 1)),
        np.max(limits or [[[1, 1]]], axis=(0, 1)),
    )
    # of points that are all alike too, however far from zero
    room = margin * np.maximum(high - low, 1e-6 * np.maximum(1, np.abs(high)))
    low, high = low - room, high + room
    return float(low[0]), float(high[0]), float(low[1]), float(high[1])


def around(*rectangles: tuple[float, ...]) -> tuple[float, ...]:
    """Return the (left, right, bottom, top) that holds all these."""
    left, right, bottom, top = zip(*rectangles, strict=True)
    return min(left), max(right), min(bottom), max(top)


def few_ticks(axes: Iterable[Axes]) -> None:
    """Leave a handful of round numbers on both axes."""
    for axis in (axis for ax in axes for axis in (ax.xaxis, ax.yaxis)):
        axis.set_major_locator(few())


def few(intervals: int = 4) -> MaxNLocator:
    """Return what puts a handful of round numbers on an axis."""
    return MaxNLocator(intervals, steps=[1, 2, 5, 10])


def hide_ticks(ax: Axes) -> None:
    """Take the ticks away and keep the frame."""
    ax.set(xticks=[], yticks=[])


def draw_picture(ax: Axes, pixels: np.ndarray, *, interpolation: str = "none") -> AxesImage:
    """Draw a picture (h, w, 3) without ticks and frame."""
    ax.spines[:].set_visible(False)
    hide_ticks(ax)
    return ax.imshow(pixels, interpolation=interpolation)


def despine(ax: Axes) -> None:
    """Keep the left and lower spine only, over a faint grid: the frame of a curve."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(visible=True)

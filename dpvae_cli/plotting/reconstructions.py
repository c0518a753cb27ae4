"""Examples above their reconstructions."""

from collections.abc import Sequence
from math import ceil, sqrt
from pathlib import Path

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.plotting import samples, style, tables

COLUMNS = 8


def save_reconstructions(
    path: Path,
    x: np.ndarray,
    *,
    decoded: np.ndarray,
    title: str,
    columns: Sequence[str] | None = None,
) -> Path:
    """Write examples `(n, *example)` and their reconstructions as one picture.

    Images become rows of examples, each above the row of its reconstructions; points in the plane
    are tied by lines; everything else becomes two heat maps.

    Args:
        path: ends in .png or .pdf.
        x: the examples.
        decoded: their reconstructions, in the same order.
        title: whose reconstructions these are.
        columns: names of the entries of an example, where the data has any.
    """
    if is_image(x.shape[1:]):
        wide = min(len(x), max(COLUMNS, ceil(sqrt(2 * len(x)))))
        rows = interleave_rows(x, decoded, wide)
        return samples.save_images(path, rows, title=title, columns=wide)
    figure = (pairs if x.shape[1:] == (2,) else heat_maps)(x, decoded, columns)
    style.add_title(figure, title)
    return style.save(figure, path)[0]


def interleave_rows(x: np.ndarray, decoded: np.ndarray, columns: int) -> np.ndarray:
    """Return `columns` examples, their reconstructions, the next examples, and so on.

    White images fill a last row that is not full.
    """
    missing, white = -len(x) % columns, 255 if x.dtype == np.uint8 else 1
    filled = [
        np.concatenate([part, np.full((missing, *part.shape[1:]), white, part.dtype)])
        for part in (x, decoded)
    ]
    rows = [part.reshape(-1, columns, *x.shape[1:]) for part in filled]
    return np.stack(rows, axis=1).reshape(-1, *x.shape[1:])


@style.house_style()
def pairs(x: np.ndarray, decoded: np.ndarray, columns: Sequence[str] | None = None) -> Figure:
    """Draw points in the plane, each tied to its reconstruction."""
    left, right, bottom, top = style.bounds(x, decoded)
    tall = float(np.clip((top - bottom) / (right - left), 0.3, 1.5))
    figure = style.new_figure(style.SINGLE_COLUMN, 2.8 * tall + 0.6, compressed=True)
    ax = figure.subplots()
    ties = list(np.stack([x, decoded], axis=1))
    ax.add_collection(LineCollection(ties, colors=style.LIGHT_GREY, linewidths=0.8))
    looks = ((x, style.GREY, "examples"), (decoded, style.VERMILLION, "reconstructions"))
    for points, colour, _ in looks:
        ax.scatter(points[:, 0], points[:, 1], s=6, color=colour, linewidths=0, zorder=3)
    xlabel, ylabel = tables.column_labels(2, columns) if columns else ("$x_1$", "$x_2$")
    ax.set(aspect=style.aspect(left, right, bottom, top), xlabel=xlabel, ylabel=ylabel)
    style.few_ticks([ax])
    style.legend_below(figure, [style.dot_handle(colour, name) for _, colour, name in looks])
    return figure


@style.house_style()
def heat_maps(x: np.ndarray, decoded: np.ndarray, columns: Sequence[str] | None = None) -> Figure:
    """Draw examples of any shape as heat maps, one a row, examples above reconstructions."""
    blocks = [part.reshape(len(part), -1) for part in (x, decoded)]
    low, high = (float(end([end(block) for block in blocks])) for end in (np.min, np.max))
    height = float(np.clip(0.12 * len(x) + 0.4, 1.2, 3.5))
    figure = style.new_figure(style.SINGLE_COLUMN, 2 * height + 0.2)
    axes = figure.subplots(2, 1, sharex=True)
    for ax, block, title in zip(axes, blocks, ("examples", "reconstructions"), strict=True):
        image = samples.heat_map(ax, block, vmin=low, vmax=high)
        ax.set_title(title, loc="left")
        ax.set_ylabel("example")
    samples.name_entries(axes[-1], columns)
    figure.colorbar(image, ax=list(axes), aspect=30).set_label("value")
    return figure

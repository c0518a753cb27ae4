"""Samples and reconstructions as pictures: image grids, point clouds, heat maps."""

from collections.abc import Sequence
from functools import partial
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.foundation.files import write_atomically
from dpvae_cli.plotting import style, tables

GAP = 2
"""White pixels between the images of a grid."""
MOST_NAMES = 25
"""Names under a heat map."""
AROUND_DATA = 0.3
"""Room around data that samples are drawn over, as a share of its extent."""
WIDTH, HEIGHT = 1_000, 4_000
"""Pixels that a grid has at least from left to right, and that enlarging it never exceeds."""
DPI = 200
COLUMNS = 8
"""Reconstructions in a row, at least."""


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Return images (n, c, h, w) as bytes; values in [0, 1] may overshoot, bytes stay as they are.

    Raises:
        UsageError: the images have neither one channel nor three.
    """
    if not is_image(images.shape[1:]):
        shape = " x ".join(map(str, images.shape[1:]))
        raise UsageError(
            f"cannot draw examples of shape {shape} as images",
            hint="Images are (1, height, width) or (3, height, width); draw others as rows.",
        )
    if images.dtype == np.uint8:
        return images
    in_bytes: np.ndarray = np.rint(255 * np.clip(np.nan_to_num(images), 0, 1)).astype(np.uint8)
    return in_bytes


def to_pixels(images: np.ndarray) -> np.ndarray:
    """Return the bytes of images (n, c, h, w) as (n, h, w, 3)."""
    found = to_uint8(images)
    return np.broadcast_to(found, (len(found), 3, *found.shape[2:])).transpose(0, 2, 3, 1)


def grid(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Tile images (n, c, h, w) row by row into one (H, W, 3) picture of bytes.

    Args:
        images: values in [0, 1]; what lies outside is clipped. Bytes are taken as they are.
        columns: images a row; as many as there are rows, or one more, by default.
    """
    pixels = to_pixels(images)
    count, height, width, _ = pixels.shape
    columns = columns or max(1, ceil(sqrt(count)))
    rows = max(1, ceil(count / columns))
    canvas = np.full((rows, height + GAP, columns, width + GAP, 3), 255, dtype=np.uint8)
    for index, tile in enumerate(pixels):
        canvas[index // columns, :height, index % columns, :width] = tile
    canvas = canvas.reshape(rows * (height + GAP), columns * (width + GAP), 3)
    return canvas[:-GAP, :-GAP]


def enlarge(picture: np.ndarray) -> np.ndarray:
    """Return a picture (h, w, 3) at least `WIDTH` wide, each pixel a square of equal ones."""
    tall, wide, _ = picture.shape
    factor = max(1, min(ceil(WIDTH / wide), HEIGHT // tall))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


@style.house_style()
def title_strip(text: str, width: int) -> np.ndarray:
    """Return a line of text as a picture (h, `width`, 3) of bytes."""
    size = float(np.clip(9 * width / WIDTH, 4.5, 27))
    figure = Figure(figsize=(width / DPI, 2 * size / 72), dpi=DPI)
    figure.text(0, 0.55, style.escape_label(text, 80), fontsize=size, va="center", color=style.GREY)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.array(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]


def save_grid(
    images: np.ndarray, path: Path, *, columns: int | None = None, title: str = ""
) -> Path:
    """Write `grid`, enlarged and with a title above it, as a PNG; without a suffix `path` gets one.

    Raises:
        UsageError: the suffix is not .png, or the folder cannot be written to.
    """
    path = path if path.suffix else path.with_name(f"{path.name}.png")
    if path.suffix.lower() != ".png":
        raise UsageError(f"cannot write the image grid {path}", hint="Its suffix must be .png.")
    picture = enlarge(grid(images, columns))
    if title:
        picture = np.concatenate([title_strip(title, picture.shape[1]), picture])
    write_atomically(path, partial(Image.fromarray(picture).save, format="PNG"))
    return path


def save_each(images: np.ndarray, folder: Path, *, start: int = 0) -> None:
    """Write each image as a PNG of its own, 000000.png and so on, grey or colour as it is.

    Raises:
        UsageError: these are not images, or the folder cannot be written to.
    """
    for index, image in enumerate(to_uint8(images), start):
        pixels = np.ascontiguousarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
        save = partial(Image.fromarray(pixels).save, format="PNG")
        write_atomically(folder / file_name(index), save, durable=False)


def file_name(index: int) -> str:
    """Return the file of one sample among many."""
    return f"{index:06d}.png"


@style.house_style()
def scatter(
    points: np.ndarray,
    log_density: np.ndarray,
    *,
    reference: np.ndarray | None = None,
    columns: Sequence[str] | None = None,
) -> Figure:
    """Draw decoded samples (n, 2), probable ones dark, over a trace of reference points (m, 2).

    The reference alone sets the axes, so that models of the same data have the same; samples
    outside are counted and stand as crosses on the frame.
    """
    shown, margin = (points, 0.07) if reference is None else (reference, AROUND_DATA)
    left, right, bottom, top = style.bounds(shown, margin=margin)
    tall = float(np.clip((top - bottom) / (right - left), 0.3, 1.5))
    figure = style.new_figure(style.SINGLE_COLUMN, 2.2 * tall + 0.6, compressed=True)
    ax = figure.subplots()
    if reference is not None:
        style.scatter_dense(ax, reference, colour=style.LIGHT_GREY)
    order = np.argsort(log_density)
    x, y = points[order].T
    dots = ax.scatter(
        x, y, c=log_density[order], cmap=style.POINTS_MAP, s=3, linewidths=0, rasterized=True
    )
    xlabel, ylabel = (
        map(partial(style.escape_label, width=30), columns) if columns else ("$x_1$", "$x_2$")
    )
    aspect = style.aspect(left, right, bottom, top)
    ax.set(aspect=aspect, xlabel=xlabel, ylabel=ylabel, xlim=(left, right), ylim=(bottom, top))
    on_frame = np.clip(points, [left, bottom], [right, top])
    outside = np.isfinite(points).all(axis=1) & (on_frame != points).any(axis=1)
    if outside.any():
        ax.plot(*on_frame[outside].T, "x", color=style.GREY, markersize=3, clip_on=False)
        outliers = f"{outside.sum():,} outside (×)"
        ax.text(0.98, 0.98, outliers, transform=ax.transAxes, ha="right", va="top", fontsize=6)
    style.few_ticks([ax])
    figure.colorbar(dots, ax=ax).set_label("log-density, nats")
    return figure


@style.house_style()
def rows(vectors: np.ndarray) -> Figure:
    """Draw examples of any shape as a heat map, flattened, one a row."""
    table = vectors.reshape(len(vectors), -1)
    height = float(np.clip(0.12 * len(table) + 0.6, 1.4, 4.5))
    figure = style.new_figure(style.SINGLE_COLUMN, height)
    ax = figure.subplots()
    image = heat_map(ax, table)
    ax.set(xlabel="entry", ylabel="sample")
    figure.colorbar(image, ax=ax).set_label("value")
    return figure


def heat_map(ax: Axes, table: np.ndarray, **limits: Any) -> matplotlib.image.AxesImage:
    """Draw a table of numbers; rows are counted from the top."""
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(5, integer=True))
    return ax.imshow(table, aspect="auto", cmap="cividis", interpolation="nearest", **limits)


def name_entries(ax: Axes, columns: Sequence[str] | None) -> None:
    """Write the names of the entries of an example under a heat map, as many as have room."""
    if not columns:
        ax.set_xlabel("entry")
        return
    places = range(0, len(columns), ceil(len(columns) / MOST_NAMES))
    ax.set_xticks(places, [style.escape_label(columns[place], 18) for place in places], rotation=90)


def save_picture(
    path: Path,
    decoded: np.ndarray,
    *,
    log_density: np.ndarray,
    title: str,
    reference: np.ndarray | None = None,
    columns: Sequence[str] | None = None,
) -> Path:
    """Write samples as an image grid, over data as points or tables, or as a heat map.

    Args:
        path: ends in .png or .pdf.
        decoded: `(n, *example)`.
        log_density: of each sample in the generation space, nats; colours points in the plane.
        title: whose samples these are, and of which kind.
        reference: data `(m, *example)` to show behind points and tables.
        columns: names of a table's columns.
    """
    if is_image(decoded.shape[1:]):
        return save_images(path, decoded, title=title)
    if decoded.shape[1:] == (2,):
        figure = scatter(decoded, log_density, reference=reference, columns=columns)
    elif decoded.ndim == 2:
        figure = tables.table_figure(decoded, reference=reference, columns=columns)
    else:
        figure = rows(decoded)
    style.add_title(figure, title)
    return style.save(figure, path)[0]


def save_images(path: Path, images: np.ndarray, *, title: str, columns: int | None = None) -> Path:
    """Write an image grid with a title: enlarged as .png, on a page as .pdf."""
    if path.suffix.lower() == ".png":
        return save_grid(images, path, columns=columns, title=title)
    pixels, wide = grid(images, columns), style.SINGLE_COLUMN
    with style.house_style():
        figure = style.new_figure(wide, wide * pixels.shape[0] / pixels.shape[1] + 0.2)
        axes = figure.subplots()
        style.draw_picture(axes, pixels)
        style.add_title(figure, title)
    return style.save(figure, path)[0]


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
        return save_images(path, rows, title=title, columns=wide)
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
        image = heat_map(ax, block, vmin=low, vmax=high)
        ax.set_title(title, loc="left")
        ax.set_ylabel("example")
    name_entries(axes[-1], columns)
    figure.colorbar(image, ax=list(axes), aspect=30).set_label("value")
    return figure

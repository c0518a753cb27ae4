"""Walks as an animation: all of them step together, there and back, for ever."""

from collections.abc import Callable
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.foundation.files import write_atomically
from dpvae_cli.plotting import samples, style
from dpvae_cli.plotting import traversal as walks
from dpvae_cli.plotting.style import Record

Update = Callable[[int], None]
"""Shows a step."""

ONE_WAY = 2_400
"""Milliseconds from one end to the other, as far as the bounds below allow."""
SHORTEST, LONGEST, REST = 40, 200, 700
"""Milliseconds of one frame, and of the frame at either end."""
DPI = 120
_KEPT = ("#ffffff", style.GREY, *walks.COLOURS.values(), *walks.SWEEPS, *walks.ENDS)
_COLUMNS = 5
_TILE, _SPACE, _ABOVE, _BELOW = 1.25, 0.12, 0.22, 0.2  # inches
_PANEL, _HEAD = 2.3, 0.2


def check_animatable(example_shape: tuple[int, ...]) -> None:
    """Check that examples are images or points in the plane; call before long work.

    Raises:
        UsageError: it would not be clear what moves.
    """
    if example_shape != (2,) and not is_image(example_shape):
        shape = " x ".join(map(str, example_shape))
        raise UsageError(
            f"--gif shows images or points in the plane; examples of shape {shape} are neither",
            hint="Leave --gif out: the picture has them as heat maps.",
        )


def save_animation(path: Path, record: Record, label: str) -> Path:
    """Write walks (as `plotting.traversal.figure` takes them) as a GIF that loops.

    A frame shows one step of every walk under `label`: the decoded images with their log q(z), or
    the points; and for two latent dimensions where each of them is on the map of log q(z).
    """
    there = _with_one_palette(frames(record, label))
    images = there + there[-2:0:-1]
    times = durations(len(there))
    options: dict[str, Any] = {"append_images": images[1:], "duration": times, "loop": 0}
    write_atomically(path, partial(images[0].save, format="GIF", save_all=True, **options))
    return path


def _with_one_palette(shots: list[np.ndarray]) -> list[Image.Image]:
    """Return pictures of at most 256 colours, the same for all, so that nothing flickers.

    The colours of lines and marks, few pixels each, have their place in the palette; the others
    come from all pictures together.
    """
    kept = [tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in _KEPT]
    found = Image.fromarray(np.concatenate(shots)).quantize(256 - len(kept))
    palette = Image.new("P", (1, 1))
    palette.putpalette([*(value for rgb in kept for value in rgb), *(found.getpalette() or ())])
    images = []
    for shot in shots:
        image = Image.fromarray(shot).quantize(palette=palette, dither=Image.Dither.NONE)
        image.paste(0, mask=Image.fromarray((shot == 255).all(axis=-1)))  # white stays white
        images.append(image)
    return images


def durations(steps: int) -> list[int]:
    """Return milliseconds of every frame, there and back; GIFs count in hundredths of a second."""
    each = 10 * round(np.clip(ONE_WAY / steps, SHORTEST, LONGEST) / 10)
    there = [each] * steps
    there[0] = there[-1] = REST
    return there + there[-2:0:-1]


@style.house_style()
def frames(record: Record, label: str) -> list[np.ndarray]:
    """Return the pictures of all steps, from the first to the last, each (h, w, 3) bytes."""
    figure, updates = _scene(record, label)
    canvas = FigureCanvasAgg(figure)
    shots = []
    for step in range(record["walk_decoded"].shape[1]):
        for update in updates:
            update(step)
        canvas.draw()  # type: ignore[no-untyped-call]
        shots.append(np.array(canvas.buffer_rgba())[..., :3])  # type: ignore[no-untyped-call]
    return shots


def _scene(record: Record, label: str) -> tuple[Figure, list[Update]]:
    """Return a figure, laid out by hand so that nothing moves but the walks, and its updates."""
    count, mapped = len(record["walk_space"]), "log_q" in record
    images = is_image(record["walk_decoded"].shape[2:])
    columns = min(count, _COLUMNS)
    rows = ceil(count / columns)
    row = _TILE + _ABOVE + _BELOW
    wide = columns * (_TILE + _SPACE) if images else _PANEL + 0.45
    tall = max(rows * row if images else 0, (_PANEL + 0.5) * (mapped or not images))
    width = wide + _SPACE + (_PANEL + 0.35) * mapped
    height = tall + 0.1 + _HEAD
    figure = Figure(figsize=(width, height), dpi=DPI)
    style.add_title(figure, label, y=1 - 0.04 / height, va="top")
    top = tall / 2 + rows * row / 2 + 0.05
    updates = []
    if images:
        for walk in range(count):
            left = _SPACE + walk % columns * (_TILE + _SPACE)
            bottom = top - (walk // columns + 1) * row + _BELOW
            updates.append(_tile(walks.place(figure, left, bottom, _TILE, _TILE), record, walk))
    else:
        ax, decoded = walks.place(figure, 0.45, 0.3, _PANEL, _PANEL), record["walk_decoded"]
        for walk, points in enumerate(decoded):
            ax.plot(*points.T, color=walks.walk_colour(record, walk), linewidth=1, alpha=0.6)
        ax.set(title="decoded", xlabel="$x_1$", ylabel="$x_2$")
        style.set_data_limits(ax, *style.bounds(decoded.reshape(-1, 2)))
        style.few_ticks([ax])
        updates.append(_dots(ax, record, decoded))
    if mapped:
        ax = walks.place(figure, width - _PANEL - 0.05, (tall + 0.1 - _PANEL) / 2, _PANEL, _PANEL)
        walks.draw_map(ax, record)
        updates.append(_dots(ax, record, record["walk_z"]))
    return figure, updates


def _tile(ax: Axes, record: Record, walk: int) -> Update:
    """Draw one walk's image with log q(z) under it."""
    pixels, log_q = samples.to_pixels(record["walk_decoded"][walk]), record["walk_log_q"][walk]
    image = style.draw_picture(ax, pixels[0], interpolation="nearest")
    ax.set_title(walks.short_name(record, walk), color=walks.walk_colour(record, walk))

    def show(step: int) -> None:
        image.set_data(pixels[step])
        ax.set_xlabel(f"$\\log\\,q(z)$ {walks.format_signed(float(log_q[step]))}", color=style.GREY)

    return show


def _dots(ax: Axes, record: Record, points: np.ndarray) -> Update:
    """Put a dot a walk at its place, `points` being (W, T, 2)."""
    look: dict[str, Any] = {"marker": "o", "markersize": 6, "markeredgecolor": "white", "zorder": 6}
    dots = [
        ax.plot(*points[walk, :1].T, color=walks.walk_colour(record, walk), **look)[0]
        for walk in range(len(points))
    ]

    def show(step: int) -> None:
        for dot, path in zip(dots, points, strict=True):
            dot.set_data(*path[step : step + 1].T)

    return show

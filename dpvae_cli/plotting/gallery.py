"""Figure 5: prior, low-posterior and high-posterior samples, a row a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.plotting import samples, style, tables

COLUMNS = {
    "prior": "prior samples",
    "low_posterior": "low-posterior samples",
    "high_posterior": "high-posterior samples",
}
COLOURS = {"prior": style.BLACK, "low_posterior": style.LOW, "high_posterior": style.HIGH}
MOST_PANELS = 6
"""Columns of a table that are drawn, the first ones."""
APART = 3.0
"""The gap between two grids, as a multiple of the one between two images."""
LEAST_APART, LABEL = 0.16, 0.4  # inches


@final
@dataclass(frozen=True)
class Gallery(style.DrawnRun):
    """Decoded samples of one run.

    `arrays` has examples (n, *shape) under each key of `COLUMNS`, and unless they are images the
    data as `data` (m, *shape).
    """

    arrays: dict[str, np.ndarray]
    columns: Sequence[str] | None = None
    """Names of a table's columns."""


def figure5(galleries: Sequence[Gallery]) -> Figure:
    """Draw a row a run: three grids of images, or points and columns of tables over the data.

    Source: Figure 5, which shows the first two grids.

    Raises:
        UsageError: there is no run, or runs have examples of different shapes.
    """
    if not galleries:
        raise UsageError("nothing to draw: no run was given", hint="Name at least one run.")
    shapes = {gallery.arrays["prior"].shape[1:] for gallery in galleries}
    if all(is_image(gallery.arrays["prior"].shape[1:]) for gallery in galleries):
        return _grids(galleries)
    if len(shapes) > 1:
        listed = " and ".join(sorted(" x ".join(map(str, shape)) for shape in shapes))
        raise UsageError(
            f"examples of shapes {listed} do not go into one figure", hint="Draw them one by one."
        )
    return _planes(galleries) if shapes == {(2,)} else _columns(galleries)


@style.house_style()
def _grids(galleries: Sequence[Gallery]) -> Figure:
    grids = [[samples.grid(gallery.arrays[key]) for key in COLUMNS] for gallery in galleries]
    # The fewer pixels an image has, the wider the gaps, within grids and between them.
    share = APART * samples.GAP / max(g.shape[1] for row in grids for g in row)
    room, gaps = style.DOUBLE_COLUMN - LABEL, len(COLUMNS) - 1
    wide = room / (len(COLUMNS) + gaps * share)
    gap = wide * share
    if gap < LEAST_APART:
        wide, gap = (room - gaps * LEAST_APART) / len(COLUMNS), LEAST_APART
    heights = [max(g.shape[0] / g.shape[1] for g in row) * wide for row in grids]
    height = sum(heights) + gap * (len(heights) - 1) + 0.25
    figure = style.new_figure(style.DOUBLE_COLUMN, height)
    pads = {"w_pad": 0.02, "h_pad": 0.02, "wspace": gap / wide, "hspace": gap / wide}
    figure.set_layout_engine("constrained", **pads)
    axes = figure.subplots(len(grids), len(COLUMNS), squeeze=False, height_ratios=heights)
    for row, gallery, pictures in zip(axes, galleries, grids, strict=True):
        for ax, drawn in zip(row, pictures, strict=True):
            style.draw_picture(ax, drawn)
        row[0].set_ylabel(gallery.name_on_lines(24), color=style.prior_colour(gallery.prior))
    for ax, title in zip(axes[0], COLUMNS.values(), strict=True):
        ax.set_title(title)
    return figure


@style.house_style()
def _planes(galleries: Sequence[Gallery]) -> Figure:
    """Draw points in the plane over the data, all on the same axes."""
    window = style.around(
        style.bounds(*(gallery.arrays["data"] for gallery in galleries)),
        style.bounds(*(g.arrays[key] for g in galleries for key in COLUMNS), trim=0.5),
    )
    tall = float(np.clip((window[3] - window[2]) / (window[1] - window[0]), 0.5, 1.5))
    height = (2.1 * tall + 0.1) * len(galleries) + 0.4
    figure = style.new_figure(style.DOUBLE_COLUMN, height, compressed=True)
    axes = figure.subplots(len(galleries), len(COLUMNS), squeeze=False, sharex=True, sharey=True)
    for row, gallery in zip(axes, galleries, strict=True):
        for ax, key in zip(row, COLUMNS, strict=True):
            style.scatter_dense(ax, gallery.arrays["data"], colour=tables.DATA)
            style.dots(ax, gallery.arrays[key], colour=COLOURS[key], size=3.0)
            ax.set(xlim=window[:2], ylim=window[2:], aspect=style.aspect(*window))
        row[0].set_ylabel(gallery.name_on_lines(24), color=style.prior_colour(gallery.prior))
    for ax, title in zip(axes[0], COLUMNS.values(), strict=True):
        ax.set_title(title)
    columns = galleries[0].columns
    for ax in axes[-1]:
        ax.set_xlabel(tables.column_labels(2, columns)[0] if columns else "data space $x$")
    if columns:
        for ax in axes[:, -1]:
            ax.yaxis.set_label_position("right")
            ax.set_ylabel(tables.column_labels(2, columns)[1])
    style.few_ticks(axes.flat)
    style.legend_below(figure, [style.dot_handle(tables.DATA, "data")])
    return figure


@style.house_style()
def _columns(galleries: Sequence[Gallery]) -> Figure:
    """Draw histograms of columns, with the same bins for all runs."""
    flat = [
        {key: values.reshape(len(values), -1) for key, values in gallery.arrays.items()}
        for gallery in galleries
    ]
    count = flat[0]["prior"].shape[1]
    names = tables.column_labels(count, galleries[0].columns)
    shown = min(count, MOST_PANELS)
    figure = style.new_figure(style.DOUBLE_COLUMN, 1.2 * len(galleries) + 0.3)
    axes = figure.subplots(len(galleries), shown, squeeze=False, sharex="col")
    for column, (line, name) in enumerate(zip(axes.T, names, strict=False)):
        edges = tables.bins(*(part[key][:, column] for part in flat for key in part))
        for ax, part in zip(line, flat, strict=True):
            tables.histogram(ax, part["data"][:, column], edges, colour=tables.DATA, filled=True)
            for key, colour in COLOURS.items():
                tables.histogram(ax, part[key][:, column], edges, colour=colour)
            ax.set(yticks=[], xlim=(edges[0], edges[-1]))
            tables.short_ticks(ax.xaxis)
        line[0].set_title(name)
    for row, gallery in zip(axes, galleries, strict=True):
        row[0].set_ylabel(gallery.name_on_lines(24), color=style.prior_colour(gallery.prior))
    handles = [style.dot_handle(tables.DATA, "data")]
    handles += [Line2D([], [], color=COLOURS[key], label=COLUMNS[key]) for key in COLUMNS]
    if shown < count:
        handles.append(Line2D([], [], linestyle="", label=f"first {shown} of {count} columns"))
    style.legend_below(figure, handles)
    return figure

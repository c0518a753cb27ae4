"""Figure 5: image grids of prior, low-posterior and high-posterior samples, a row a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from matplotlib.figure import Figure

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.plotting import panels, samples, style

COLUMNS = {
    "prior": "prior samples",
    "low_posterior": "low-posterior samples",
    "high_posterior": "high-posterior samples",
}
APART = 3.0
"""The gap between two grids, as a multiple of the one between two images."""
LEAST_APART, LABEL = 0.16, 0.4  # inches


@final
@dataclass(frozen=True)
class Gallery:
    """Decoded samples of one run: `arrays` has images (n, c, h, w) under each key of `COLUMNS`."""

    label: str
    prior: str
    arrays: dict[str, np.ndarray]


@style.house_style()
def figure5(galleries: Sequence[Gallery]) -> Figure:
    """Draw three grids a run side by side.

    Source: Figure 5, which shows the first two of them.

    Raises:
        UsageError: there is no run, or its samples are no images.
    """
    if not galleries:
        raise UsageError("nothing to draw: no run was given", hint="Name at least one run.")
    grids = [[samples.grid(gallery.arrays[key]) for key in COLUMNS] for gallery in galleries]
    wide, gap = _sizes(max(g.shape[1] for row in grids for g in row))
    heights = [max(g.shape[0] / g.shape[1] for g in row) * wide for row in grids]
    height = sum(heights) + gap * (len(heights) - 1) + 0.25
    figure = style.new_figure(style.DOUBLE_COLUMN, height)
    pads = {"w_pad": 0.02, "h_pad": 0.02, "wspace": gap / wide, "hspace": gap / wide}
    figure.set_layout_engine("constrained", **pads)
    axes = figure.subplots(len(grids), len(COLUMNS), squeeze=False, height_ratios=heights)
    for row, gallery, pictures in zip(axes, galleries, grids, strict=True):
        for ax, picture in zip(row, pictures, strict=True):
            ax.imshow(picture, interpolation="none")
            ax.spines[:].set_visible(False)
            panels.bare(ax)
        name = f"{style.plain(style.family(gallery.label, gallery.prior), 24)}\n"
        colour = style.prior_colour(gallery.prior)
        row[0].set_ylabel(f"{name}{style.prior_name(gallery.prior)}".strip(), color=colour)
    for ax, title in zip(axes[0], COLUMNS.values(), strict=True):
        ax.set_title(title)
    return figure


def _sizes(pixels: int) -> tuple[float, float]:
    """Return a grid's width and the gap between grids, in inches, for a grid of so many pixels.

    The fewer pixels an image has, the wider are the gaps of the grid, and those between grids too.
    """
    room, share = style.DOUBLE_COLUMN - LABEL, APART * samples.GAP / pixels
    wide = room / (len(COLUMNS) + (len(COLUMNS) - 1) * share)
    if wide * share >= LEAST_APART:
        return wide, wide * share
    return (room - (len(COLUMNS) - 1) * LEAST_APART) / len(COLUMNS), LEAST_APART

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
    wide = (style.DOUBLE_COLUMN - 0.4) / len(COLUMNS)
    heights = [max(g.shape[0] / g.shape[1] for g in row) * wide for row in grids]
    height = sum(heights) + 0.05 * len(heights) + 0.2
    figure = style.new_figure(style.DOUBLE_COLUMN, height)
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

"""The picture of a set of decoded samples, whatever their shape."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from dpvae_cli.plotting import panels, samples, style

CHANNELS = (1, 3)


def save(
    path: Path, decoded: np.ndarray, *, log_density: np.ndarray, reference: np.ndarray | None = None
) -> Path:
    """Write samples as an image grid, a scatter of points in the plane, or a heat map.

    Args:
        path: ends in .png or .pdf.
        decoded: `(n, *example)`.
        log_density: of each sample in the generation space, nats; colours points in the plane.
        reference: data points `(m, 2)` to show behind samples in the plane.
    """
    if decoded.ndim == 4 and decoded.shape[1] in CHANNELS and path.suffix.lower() == ".png":
        return samples.save_grid(decoded, path)
    return style.save(_figure(decoded, log_density, reference), path)[0]


@style.house_style()
def _figure(decoded: np.ndarray, log_density: np.ndarray, reference: np.ndarray | None) -> Figure:
    if decoded.shape[1:] == (2,):
        return samples.scatter(decoded, log_density, reference=reference)
    if decoded.ndim == 4 and decoded.shape[1] in CHANNELS:
        figure = style.new_figure(style.SINGLE_COLUMN, style.SINGLE_COLUMN)
        axes = figure.subplots()
        axes.imshow(samples.grid(decoded))
        panels.bare(axes)
        return figure
    return samples.rows(decoded)

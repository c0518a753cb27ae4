"""A diagnosis as one HTML file."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

from dpvae_cli.diagnosis import Diagnosis, tables
from dpvae_cli.diagnosis.null import ALARMS
from dpvae_cli.diagnosis.record import LEVEL
from dpvae_cli.diagnosis.verdict import describe_dimensions, recommendation, summarize
from dpvae_cli.foundation.sanitize import sanitize_line
from dpvae_cli.pages import rendered
from dpvae_cli.pages.pictures import Picture, from_bytes
from dpvae_cli.plotting import diagnosis as figures
from dpvae_cli.plotting import style

TEMPLATE = Path(__file__).parent / "diagnosis.html.j2"
DENSITIES = (
    "Left: log q(z) of the prior's samples beside that of codes that q(z) has not seen; samples "
    "left of the dashed line lie in pockets. Right: log p(z) of such codes beside that of samples; "
    "codes left of the dashed line leak."
)
PLANE = (
    "Left: samples of the prior on the density of the codes. Right: codes on the density of the "
    "prior. Black points are those left of the dashed lines above."
)
GRIDS = (
    "Decoded samples: of the prior as it is, those of them with the lowest log q(z), which the "
    "decoder knows least, and of the prior that is recommended, where one is."
)


@final
@dataclass(frozen=True)
class About:
    """The run that was diagnosed.

    Args:
        run: its name.
        checkpoint: the file.
        digest: of that file.
        iteration: of the checkpoint.
        recipe: its name.
        command: fits a prior; `{options}` stands for which, and how.
        comparison: draws samples, those of the fitted prior too where `command` was run.
        data_note: why numbers do not compare with published ones.
    """

    run: str
    checkpoint: str
    digest: str
    iteration: int
    recipe: str
    command: str
    comparison: str
    data_note: str | None = None

    def comparison_after(self, command: str | None) -> str:
        """Return the command that draws samples, and with them those of the run that fits made."""
        return self.comparison if command is None else f"{self.comparison} runs/latest"


def page(found: Diagnosis, about: About) -> str:
    """Return the whole page."""
    advice, command = recommendation(found, about.command)
    return rendered(
        TEMPLATE,
        title=sanitize_line(f"Diagnosis of {about.run}"),
        about=about,
        found=found,
        level=f"{LEVEL:g}",
        once_in=f"{1 / ALARMS:.0f}",
        headline=summarize(found),
        dimensions_said=describe_dimensions(found),
        advice=advice,
        command=None if command is None else sanitize_line(command, longest=2_000),
        comparison=sanitize_line(about.comparison_after(command), longest=2_000),
        grids=_grids(found),
        quantities=tables.quantities(found),
        dimensions=tables.dimensions(found),
        repairs=tables.repairs(found) if found.repairs else None,
        low=tables.low_posterior(found),
        pictures=_pictures(found),
    )


def _pictures(found: Diagnosis) -> list[Picture]:
    drawn = [(figures.densities(found.arrays, found.prior), DENSITIES)]
    if "grid_x" in found.arrays:
        drawn.append((figures.plane(found.arrays, found.prior), PLANE))
    made = (from_bytes(style.png(each), alt=caption, caption=caption) for each, caption in drawn)
    return [picture for picture in made if picture is not None]


def _grids(found: Diagnosis) -> Picture | None:
    if "samples" not in found.arrays:
        return None
    return from_bytes(style.png(figures.grids(found.arrays)), alt=GRIDS, caption=GRIDS)

"""What goes to workers and comes back; light to import, and pickled on the way."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, final

if TYPE_CHECKING:
    from dpvae_cli.recipe import Recipe
    from dpvae_cli.studies.figures import StudyFigure

Status = Literal["started", "lost", "done", "failed", "busy", "interrupted"]


@final
@dataclass(frozen=True)
class Cell:
    """One run of a study: an ordinary run folder with results.

    Args:
        name: of the folder: `<recipe>-<prior>-seed<k>-<8 hex of the resolved recipe>`.
        folder: its path.
        recipe: the resolved recipe.
        metrics: what is measured, as far as the data allows.
        figures: figures of the study that show the cell.
    """

    name: str
    folder: Path
    recipe: "Recipe"
    metrics: tuple[str, ...] = ()
    figures: "tuple[StudyFigure, ...]" = ()


@final
@dataclass(frozen=True)
class CellOptions:
    """What all cells share.

    Args:
        data_root: folder to look for data in.
        download: allow downloads of data and weights.
        fid_dimensions: of the Inception features; None takes all 2048.
        inception_weights: file of the FID Inception weights.
    """

    data_root: Path | None = None
    download: bool = True
    fid_dimensions: int | None = None
    inception_weights: Path | None = None


@final
@dataclass(frozen=True)
class Outcome:
    """What became of a cell: it started, was lost with its worker, or ended.

    It ends done, failed, interrupted by a signal, or busy where another process has it.
    """

    cell: str
    status: Status
    message: str = ""
    hint: str | None = None


EventHandler = Callable[[Outcome], None]


def ignore_event(event: Outcome) -> None:
    """Ignore the event."""

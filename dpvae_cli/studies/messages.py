"""Messages exchanged with workers: plain data that pickle and JSON can carry."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, final

Status = Literal["started", "lost", "done", "failed", "busy", "interrupted"]


@final
@dataclass(frozen=True)
class Cell:
    """One run of a study: an ordinary run folder with results.

    Args:
        name: of the folder: `<recipe>-<prior>-seed<k>-<8 hex of the resolved recipe>`.
        folder: its path.
        recipe_name: name of the recipe.
        recipe: the resolved recipe as `recipe.to_dict` writes it.
        axes: the cell's value on each axis.
        metrics: what is measured, as far as the data allows.
        figures: figures of the study that show the cell, as their specs' plain fields.
    """

    name: str
    folder: str
    recipe_name: str
    recipe: dict[str, Any]
    axes: dict[str, Any] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    figures: tuple[dict[str, Any], ...] = ()


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

    data_root: str | None = None
    download: bool = True
    fid_dimensions: int | None = None
    inception_weights: str | None = None


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

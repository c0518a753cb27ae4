"""What `dpvae report` is asked about: the runs, and what a study folder says of itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from dpvae_cli.foundation.sanitize import sanitize_line
from dpvae_cli.foundation.text_files import is_inside
from dpvae_cli.recipe.issues import RecipeError
from dpvae_cli.recipe.reading import read_file
from dpvae_cli.studies import published
from dpvae_cli.studies.arrangement import BASELINE
from dpvae_cli.studies.records import RECIPE, discover

STUDY = "study.yaml"
TABLE = "table1"


@final
@dataclass(frozen=True)
class Source:
    """Runs to report on; `study` is the folder where the report belongs, if it is one study's."""

    runs: tuple[Path, ...]
    study: Path | None
    title: str
    question: str | None
    metrics: tuple[str, ...] | None
    published: str | None
    figures: tuple[Path, ...]
    notes: tuple[str, ...]
    baseline: str


def source(places: Sequence[Path]) -> Source:
    """Return the runs that paths mean, with title, question and figures of a single study.

    Raises:
        MissingError: a path is not there or holds no run.
    """
    runs = tuple(discover(places))
    studies = [place for place in places if (place / STUDY).is_file()]
    study = studies[0] if len(studies) == len(places) == 1 else None
    said = _said(study) if study else {}
    return Source(
        runs=runs,
        study=study,
        title=_text(said.get("title")) or _title(places, study),
        question=_text(said.get("question")),
        metrics=_listed(said.get("metrics")) or None,
        published=_published(said.get("published", TABLE)),
        figures=tuple(figure for folder in studies for figure in _figures(folder)),
        notes=_listed(said.get("notes")),
        baseline=_text(said.get("baseline")) or BASELINE,
    )


def _said(study: Path) -> dict[str, Any]:
    """Return what study.yaml holds; a report is made of a damaged one too."""
    if not is_inside(study / STUDY, study):
        return {}
    try:
        return read_file(study / STUDY).values
    except RecipeError:
        return {}


def _title(places: Sequence[Path], study: Path | None) -> str:
    if study is not None or (len(places) == 1 and not (places[0] / RECIPE).is_file()):
        return sanitize_line(places[0].resolve().name)
    return "Runs compared" if len(places) > 1 else sanitize_line(places[0].resolve().name)


def _text(value: Any) -> str | None:
    return sanitize_line(value) if isinstance(value, str) and value.strip() else None


def _listed(value: Any) -> tuple[str, ...]:
    return tuple(sanitize_line(str(each)) for each in value) if isinstance(value, list) else ()


def _published(value: Any) -> str | None:
    """Return the table a study names, None for anything else."""
    return value if isinstance(value, str) and value in published.names() else None


def _figures(study: Path) -> list[Path]:
    return sorted((study / "figures").glob("*.png"))

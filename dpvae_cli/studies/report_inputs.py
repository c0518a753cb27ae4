"""What a report is about: the runs, and title, question and figures of their study."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from dpvae_cli.foundation.text import is_inside, sanitize_line
from dpvae_cli.recipe.document import RecipeError, read_file
from dpvae_cli.studies import published
from dpvae_cli.studies.grouping import BASELINE
from dpvae_cli.studies.loading import RECORD
from dpvae_cli.studies.records import discover


@final
@dataclass(frozen=True)
class ReportInputs:
    """What goes into a report.

    Args:
        title: of the report.
        runs: run folders, finished or not; those without numbers are listed as such.
        study: the folder where the report belongs, if it is one study's.
        question: what the runs are to answer.
        metrics: which to show; whatever the runs have by default.
        published: name of a published table whose numbers stand beside ours, such as `table1`.
        figures: pictures of several runs, each with its caption in a .txt of the same stem if any.
        notes: what was shortened or subsampled, besides what the run folders say.
        baseline: name of the prior that others are compared with.
    """

    title: str
    runs: tuple[Path, ...] = ()
    study: Path | None = None
    question: str | None = None
    metrics: tuple[str, ...] | None = None
    published: str | None = None
    figures: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    baseline: str = BASELINE


def read_inputs(places: Sequence[Path]) -> ReportInputs:
    """Return the runs in these folders, with title, question and figures of a single study.

    Raises:
        MissingError: a path does not exist or holds no run.
    """
    runs = tuple(discover(places))
    studies = [place for place in places if (place / RECORD).is_file()]
    study = studies[0] if len(studies) == len(places) == 1 else None
    fields: Mapping[str, Any] = {}
    if study is not None and is_inside(study / RECORD, study):
        with suppress(RecipeError):  # a damaged study gets a report too
            fields = read_file(study / RECORD).values
    table = fields.get("published", "table1")
    folder = places[0].resolve().name if len(places) == 1 else "Runs compared"
    return ReportInputs(
        title=_text(fields.get("title")) or sanitize_line(folder),
        runs=runs,
        study=study,
        question=_text(fields.get("question")),
        metrics=_strings(fields.get("metrics")) or None,
        published=table if table in published.published_names() else None,
        figures=tuple(path for s in studies for path in sorted((s / "figures").glob("*.png"))),
        notes=_strings(fields.get("notes")),
        baseline=_text(fields.get("baseline")) or BASELINE,
    )


def _text(value: Any) -> str | None:
    return sanitize_line(value) if isinstance(value, str) and value.strip() else None


def _strings(value: Any) -> tuple[str, ...]:
    return tuple(sanitize_line(str(each)) for each in value) if isinstance(value, list) else ()

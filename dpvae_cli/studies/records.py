"""What a report is about: run folders, how far each came, what was measured, and their study.

Nothing in a run folder is trusted: numbers must be numbers, text becomes one short line, and a file
that is none of ours is a reason, not a traceback.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, final

from dpvae_cli.foundation.errors import DpvaeError, MissingError, UsageError
from dpvae_cli.foundation.results import Result, validate_results
from dpvae_cli.foundation.text import is_inside, path_exists, read_json, sanitize_line
from dpvae_cli.recipe import Recipe, RecipeError, load_recipe
from dpvae_cli.recipe.document import read_file
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.runs.loaded_run import resolve_run
from dpvae_cli.runs.metrics_log import MetricsLog
from dpvae_cli.runs.run_folder import RECIPE, RunFolder
from dpvae_cli.studies import published
from dpvae_cli.studies.loading import RECORD

BASELINE = "standard_normal"


class RunStatus(StrEnum):
    """How far a run came."""

    measured = "measured"
    not_measured = "not measured"
    unfinished = "unfinished"
    unreadable = "unreadable"


@final
@dataclass(frozen=True)
class RunRecord:
    """One run folder. Without a recipe there is nothing but a state and its reason."""

    path: Path
    label: str
    status: RunStatus
    reason: str = ""
    recipe: Recipe | None = None
    iteration: int | None = None
    results: tuple[Result, ...] = ()
    environment: Mapping[str, str] | None = None
    note: str | None = None

    @property
    def counts(self) -> bool:
        """Return whether its numbers enter the tables."""
        return self.status is RunStatus.measured


def discover(paths: Sequence[Path]) -> list[Path]:
    """Return the run folders that paths mean: their own, their checkpoints, or folders of runs.

    The name of a packaged model means its run folder.

    Raises:
        MissingError: a path is not there, or holds no run.
    """
    found: dict[Path, Path] = {}
    for path in map(resolve_run, paths):
        if not path_exists(path):
            raise MissingError(
                f"there is nothing at {path}",
                hint="Name run folders, or the folder of a study: dpvae report runs/*",
            )
        top = path.parent if path.is_file() and path.suffix == ".pt" else path
        is_run = (top / RECIPE).is_file()
        inside = [top] if is_run else sorted(file.parent for file in top.rglob(RECIPE))
        folders = [
            folder
            for folder in inside
            if not any(part.startswith(".") for part in folder.relative_to(top).parts)
        ]
        if not folders:
            raise MissingError(
                f"{top} is not a run folder and holds none: there is no {RECIPE} in it or below it",
                hint="Train first: dpvae train beta_h_moons.",
            )
        for folder in folders:
            found.setdefault(folder.resolve(), folder)
    return list(found.values())


def read_run(path: Path) -> RunRecord:
    """Read one run folder; problems become its status and reason."""
    folder = RunFolder(path)
    label = sanitize_line(path.resolve().name)
    reason, recipe = "", None
    if not folder.recipe.is_file():
        reason = f"there is no {RECIPE}"
    for file in (folder.recipe, folder.metrics, folder.metrics_log, folder.environment):
        if not reason and not is_inside(file, path):
            reason = f"{file.name} is a link that leads out of the run folder"
    try:
        recipe = None if reason else load_recipe(folder.recipe)
    except RecipeError as error:
        reason = "its recipe: " + "; ".join(f"{each.key}: {each.problem}" for each in error.issues)
    except (DpvaeError, OSError, ValueError) as error:
        reason = f"its recipe: {error}"
    if recipe is None:
        return RunRecord(path, label, RunStatus.unreadable, sanitize_line(reason))
    measured = read_json(folder.metrics)
    name = measured.get("recipe")
    if not (isinstance(name, str) and name):  # what the folder's name has before the prior
        name = label.partition(f"-{recipe.prior.kind}")[0]
    recipe = recipe.with_name(sanitize_line(name))
    data_note = None
    with suppress(DpvaeError, AttributeError):
        data_note = checkpoints.read_checkpoint(folder.checkpoint).facts.get("data_note")
    reached = max(
        (record["iteration"] for record in MetricsLog.read(folder.metrics_log)), default=None
    )
    status, reason = _status(recipe, measured, reached=reached)
    return RunRecord(
        path=path,
        label=label,
        status=status,
        reason=reason,
        recipe=recipe,
        iteration=reached,
        results=validate_results(measured.get("results")) if status is RunStatus.measured else (),
        environment={
            sanitize_line(str(key)): sanitize_line(
                " ".join(map(str, value if isinstance(value, list) else [value]))
            )
            for key, value in read_json(folder.environment).items()
        },
        note=sanitize_line(data_note) if isinstance(data_note, str) else None,
    )


def _status(
    recipe: Recipe, measured: Mapping[str, Any], *, reached: int | None
) -> tuple[RunStatus, str]:
    wanted = recipe.training.iterations
    if (reached or 0) < wanted:
        return RunStatus.unfinished, f"at iteration {reached or 0:,} of {wanted:,}"
    if not validate_results(measured.get("results")):
        return RunStatus.not_measured, "no results in metrics.json"
    is_best = Path(str(measured.get("checkpoint"))).stem == "best"
    at = measured.get("iteration")
    if at != wanted and not is_best:
        return RunStatus.not_measured, "metrics.json is of an earlier state of the run"
    return RunStatus.measured, f"best.pt, iteration {at}" if is_best else ""


def check_any_measured(records: Sequence[RunRecord]) -> None:
    """Check that some run has results.

    Raises:
        UsageError: none has; the hint is the command that measures them.
    """
    if any(record.counts for record in records):
        return
    waiting = [record for record in records if record.status is RunStatus.not_measured]
    if waiting:
        some = " ".join(str(record.path) for record in waiting[:3])
        more = " ..." if len(waiting) > 3 else ""
        raise UsageError(
            f"none of {len(records)} runs is measured: there is no metrics.json of its last state",
            hint=f"Measure first: dpvae eval {some}{more}",
        )
    if not records:
        raise UsageError("there are no runs to report of")
    reasons = "; ".join(f"{record.label}: {record.reason}" for record in records[:3])
    raise UsageError(
        f"none of {len(records)} runs is finished ({reasons})",
        hint=f"Go on with: dpvae train --resume --run-dir {records[0].path}",
    )


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

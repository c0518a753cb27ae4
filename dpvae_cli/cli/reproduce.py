"""`dpvae reproduce`: a study, that is a grid of runs, from its plan to its figures and report."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated, final

import typer

from dpvae_cli.cli import console
from dpvae_cli.cli.completion import complete_study
from dpvae_cli.cli.errors import handle_errors
from dpvae_cli.cli.executor_options import ExecutorName, ExecutorOptions
from dpvae_cli.cli.options import (
    DataRoot,
    Device,
    FidDimensions,
    InceptionWeights,
    NoDownload,
    Quiet,
    examples,
)
from dpvae_cli.foundation.progress import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dpvae_cli.studies.executors.base import Executor
    from dpvae_cli.studies.messages import Cell, CellOptions, Outcome
    from dpvae_cli.studies.plan import Plan
    from dpvae_cli.studies.state import CellState

EXAMPLES = examples(
    "dpvae reproduce",
    "dpvae reproduce moons_quick --jobs 2",
    "dpvae reproduce table1 --dry-run",
    "dpvae reproduce table1 seed='[0, 1, 2, 3, 4]' --gpu-share 0.5",
    "dpvae reproduce table1 training.iterations=1500 '*_celeba:data.crop=74'",
    "dpvae reproduce figure4 --only '*_mnist-*'",
    "dpvae reproduce mine.yaml --fail-fast",
    "dpvae reproduce table1 --executor ray --address auto --threads 2",
    "dpvae reproduce table1 --executor slurm --partition gpu --time 04:00:00 --gpus 1",
)


@handle_errors
def reproduce(
    study: Annotated[
        str | None,
        typer.Argument(
            help="A study's name or file (without one: list the packaged studies).",
            autocompletion=complete_study,
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATTERN:]KEY=VALUE",
            help="An axis, e.g. seed=[0,1,2]; else a recipe's key for all cells, or for the "
            "recipes that fit PATTERN.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan; train nothing.")
    ] = False,
    only: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="Only cells that fit, e.g. '*_mnist-*'."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1_024,
            help="Cells at once (default: as many as fit on the GPUs, else one a core, at most 8).",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1_024,
            help="CPU threads of each cell (default: OMP_NUM_THREADS, else its share of the "
            "cores; 1 with ray and slurm).",
        ),
    ] = None,
    gpu_share: Annotated[
        float,
        typer.Option(
            min=0.001, max=1.0, help="Share of a GPU that a cell needs: 0.5 lets two share one."
        ),
    ] = 1.0,
    executor: Annotated[
        ExecutorName,
        typer.Option(
            help="local: processes on this machine; ray: a Ray cluster; slurm: an array of Slurm "
            "jobs."
        ),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            help="Address of a Ray cluster, e.g. auto (with --executor ray; default: RAY_ADDRESS, "
            "else one is started here)."
        ),
    ] = None,
    partition: Annotated[
        str | None,
        typer.Option(help="Partition (with --executor slurm)."),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            metavar="[D-]HH:MM:SS",
            help="Time limit of a job (with --executor slurm; default: 04:00:00).",
        ),
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option(min=0, help="GPUs of a job (with --executor slurm; default: 0)."),
    ] = None,
    fail_fast: Annotated[
        bool,
        typer.Option(
            "--fail-fast/--keep-going", help="Stop at the first failed cell, or finish the others."
        ),
    ] = False,
    fid_dimensions: FidDimensions = None,
    inception_weights: InceptionWeights = None,
    device: Device = "auto",
    data_root: DataRoot = None,
    no_download: NoDownload = False,
    quiet: Quiet = False,
) -> None:
    """Train and measure the runs of a table or figure, and draw it.

    Packaged: figure1, figure3, figure4, figure5, figure6, figure7, figure8, joint_or_posthoc,
    latent_dim, moons_quick, priors_moons, priors_mnist, representation_mnist,
    representation_sprites, table1.
    Everything is kept in studies/<study>/; the same command goes on where the last one stopped.
    """
    if study is None:
        from dpvae_cli.studies import catalogue

        rows = [[name, catalogue.study_title(name)] for name in catalogue.study_names()]
        console.table(None, ["study", "what it is"], rows)
        return
    if executor == "local" and not dry_run:
        from dpvae_cli.studies.executors import local

        local.start_forkserver()
    from dpvae_cli.evaluation.features import FeatureOptions
    from dpvae_cli.studies.loading import load_study
    from dpvae_cli.studies.messages import CellOptions
    from dpvae_cli.studies.plan import make_plan

    planned = make_plan(load_study(study, overrides or []), only=only)
    FeatureOptions(dimensions=fid_dimensions)  # raises on what Inception does not have
    options = CellOptions(
        data_root=data_root,
        download=not no_download,
        fid_dimensions=fid_dimensions,
        inception_weights=inception_weights,
    )
    place = ExecutorOptions(
        executor, device, jobs, threads, gpu_share, address, partition, time, gpus
    )
    chosen, workers = place.executor(len(planned.cells), fail_fast=fail_fast)
    states = _show_plan(
        planned, options, workers, threads=chosen.threads, quiet=quiet, dry_run=dry_run
    )
    if dry_run:
        return
    outcomes = _run(planned, states, options, chosen, quiet=quiet)
    _finish(planned, options, outcomes)


def _show_plan(
    planned: "Plan",
    options: "CellOptions",
    workers: list[str],
    *,
    threads: int,
    quiet: bool,
    dry_run: bool,
) -> "list[CellState]":
    """Print cells, states and an estimate: the result of a dry run, else a remark."""
    from dpvae_cli.studies.estimate import estimate_duration
    from dpvae_cli.studies.state import cell_state

    states = [cell_state(cell, options) for cell in planned.cells]
    expected = estimate_duration(
        planned.cells, states, options, on_gpu=workers[0] != "cpu", threads=threads
    )
    rows = []
    for cell, state in zip(planned.cells, states, strict=True):
        left = expected.seconds.get(cell.name)
        details = {
            "stopped": f"stopped at {state.iteration:,}",
            "trained": f"to measure: {', '.join(state.missing)}",
        }
        text = details.get(state.status, state.status)
        rows.append([cell.name, text, format_duration(left) if left else ""])
    counts = Counter(state.status for state in states)
    summary = f"{planned.folder}: {len(rows)} cells, " + ", ".join(
        f"{number} {word}" for word, number in counts.items()
    )
    if expected.seconds:
        total = format_duration(expected.total(len(workers)))
        summary += f"; {total} with {len(workers)} at once ({expected.source})"
    if dry_run or not quiet:
        columns = ["cell", "state", "estimated"]
        console.table(planned.study.title, columns, rows, to_stderr=not dry_run)
        (console.result if dry_run else console.note)(summary)
    return states


def _run(
    planned: "Plan",
    states: "Sequence[CellState]",
    options: "CellOptions",
    executor: "Executor",
    *,
    quiet: bool,
) -> "list[Outcome]":
    """Run the cells that are not done."""
    from functools import partial

    from dpvae_cli.studies.messages import ignore_event
    from dpvae_cli.studies.outputs import write_study_record
    from dpvae_cli.studies.run_cell import run_cell

    write_study_record(planned)
    left: list[Cell] = [
        cell for cell, state in zip(planned.cells, states, strict=True) if state.status != "done"
    ]
    on_event = ignore_event if quiet else StudyProgress(len(left))
    return executor.run(left, partial(run_cell, options=options), on_event)


@final
class StudyProgress:
    """Prints a line where a cell starts or ends; the steps between are progress."""

    def __init__(self, cells: int) -> None:
        self._cells, self._ended = cells, 0

    def __call__(self, event: "Outcome") -> None:
        """Print the event."""
        start = ""
        if event.status in ("done", "failed", "interrupted"):
            self._ended += 1
            start = f"[{self._ended}/{self._cells}] "
        text = f"{' ' if event.status == 'started' else ': '}{event.message}" * bool(event.message)
        console.note(f"{start}{event.cell}: {event.status}{text}")


def _finish(planned: "Plan", options: "CellOptions", outcomes: "Sequence[Outcome]") -> None:
    """Draw what the study draws, print where everything is, say what failed."""
    from dpvae_cli.studies.outputs import write_outputs

    finished = write_outputs(planned, options)
    console.result("\n".join(map(str, [planned.folder, *finished.figures, *finished.report])))
    failed = [outcome for outcome in outcomes if outcome.status != "done"]
    for outcome in failed:
        console.note(f"{outcome.cell} {outcome.status}: {outcome.message}")
        if outcome.hint:
            console.note(outcome.hint)
    for problem in finished.problems:
        console.note(problem)
    if failed or finished.problems:
        raise typer.Exit(1)

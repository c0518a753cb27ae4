"""`dpvae reproduce`: a study, that is a grid of runs, from its plan to its figures and report."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from dpvae_cli.cli import console
from dpvae_cli.cli.completion import complete_study
from dpvae_cli.cli.errors import handle_errors
from dpvae_cli.cli.options import (
    DataRoot,
    Device,
    FidDimensions,
    InceptionWeights,
    NoDownload,
    Quiet,
    examples,
)
from dpvae_cli.cli.study_place import ExecutorName, Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dpvae_cli.studies.cells import Cell, Options, Outcome
    from dpvae_cli.studies.executors.base import Executor
    from dpvae_cli.studies.plan import Plan
    from dpvae_cli.studies.state import State

EXAMPLES = examples(
    "dpvae reproduce",
    "dpvae reproduce moons_quick --jobs 2",
    "dpvae reproduce table1 --dry-run",
    "dpvae reproduce table1 seed='[0, 1, 2, 3, 4]' --gpu-share 0.5",
    "dpvae reproduce table1 training.iterations=1500 '*_celeba:data.crop=74'",
    "dpvae reproduce figure4 --only '*_mnist-*'",
    "dpvae reproduce mine.yaml --fail-fast",
    "dpvae reproduce table1 --executor ray --address auto --threads 2",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EXAMPLES)(reproduce)


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
        typer.Option(
            metavar="PATTERN", help="Only cells that fit, e.g. '*_mnist-*'.", show_default=False
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1_024,
            help="Cells at once (default: as many as fit on the GPUs, else one a core, at most 8).",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1_024,
            help="CPU threads of each cell (default: OMP_NUM_THREADS, else its share of the "
            "cores; 1 with ray).",
            show_default=False,
        ),
    ] = None,
    gpu_share: Annotated[
        float, typer.Option(help="Share of a GPU that a cell needs: 0.5 lets two share one.")
    ] = 1.0,
    executor: Annotated[
        ExecutorName, typer.Option(help="local: processes on this machine; ray: a Ray cluster.")
    ] = ExecutorName.local,
    address: Annotated[
        str | None,
        typer.Option(
            help="Address of a Ray cluster, e.g. auto (with --executor ray; default: RAY_ADDRESS, "
            "else one is started here).",
            show_default=False,
        ),
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
    moons_quick, priors_moons, priors_mnist, representation_mnist, representation_sprites, table1.
    Everything is kept in studies/<study>/; the same command goes on where the last one stopped.
    """
    if study is None:
        _list()
        return
    if executor is ExecutorName.local and not dry_run:
        from dpvae_cli.studies.executors import local

        local.prepare()
    from dpvae_cli.evaluation.features import FeatureOptions
    from dpvae_cli.studies.cells import Options
    from dpvae_cli.studies.loading import load
    from dpvae_cli.studies.plan import plan

    planned = plan(load(study, overrides or []), only=only)
    FeatureOptions(dimensions=fid_dimensions)  # refuses what Inception does not have
    options = Options(
        data_root=None if data_root is None else str(data_root),
        download=not no_download,
        fid_dimensions=fid_dimensions,
        inception_weights=None if inception_weights is None else str(inception_weights),
    )
    place = Place(executor, address, device, jobs, threads, gpu_share)
    chosen, workers = place.executor(len(planned.cells), fail_fast=fail_fast)
    states = _show_plan(planned, options, workers, quiet=quiet, dry_run=dry_run)
    if dry_run:
        return
    outcomes = _run(planned, states, options, chosen, quiet=quiet)
    _finish(planned, options, outcomes)


def _list() -> None:
    """List the packaged studies."""
    from dpvae_cli.studies import catalogue

    rows = [[name, catalogue.title(name)] for name in catalogue.names()]
    console.table(None, ["study", "what it is"], rows)


def _show_plan(
    planned: "Plan", options: "Options", workers: list[str], *, quiet: bool, dry_run: bool
) -> "list[State]":
    """Print cells, states and an estimate: the result of a dry run, else a remark."""
    from dpvae_cli.foundation.progress import format_duration
    from dpvae_cli.studies.estimate import estimate
    from dpvae_cli.studies.state import state_of

    states = [state_of(cell, options) for cell in planned.cells]
    expected = estimate(planned.cells, states, on_gpu=workers[0] != "cpu")
    rows = [
        [
            cell.name,
            _in_words(state),
            format_duration(left) if (left := expected.seconds.get(cell.name)) else "",
        ]
        for cell, state in zip(planned.cells, states, strict=True)
    ]
    counts = Counter(state.word for state in states)
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


def _in_words(state: "State") -> str:
    if state.word == "stopped":
        return f"stopped at {state.iteration:,}"
    if state.word == "trained":
        return f"to measure: {', '.join(state.missing)}"
    return state.word


def _run(
    planned: "Plan",
    states: "Sequence[State]",
    options: "Options",
    executor: "Executor",
    *,
    quiet: bool,
) -> "list[Outcome]":
    """Run the cells that are not done."""
    from functools import partial

    from dpvae_cli.cli.study_screen import study_screen
    from dpvae_cli.studies.cell import run_cell
    from dpvae_cli.studies.finish import begin

    begin(planned)
    left: list[Cell] = [
        cell for cell, state in zip(planned.cells, states, strict=True) if state.word != "done"
    ]
    with study_screen(len(left), quiet=quiet) as tell:
        return executor.run(left, partial(run_cell, options=options), tell)


def _finish(planned: "Plan", options: "Options", outcomes: "Sequence[Outcome]") -> None:
    """Draw what the study draws, print where everything is, say what failed."""
    from dpvae_cli.studies.finish import finish

    finished = finish(planned, options)
    console.result("\n".join(map(str, [planned.folder, *finished.figures, *finished.report])))
    failed = [outcome for outcome in outcomes if outcome.end != "done"]
    for outcome in failed:
        console.note(f"{outcome.cell} {outcome.end}: {outcome.message}")
        if outcome.hint:
            console.note(outcome.hint)
    for problem in finished.problems:
        console.note(problem)
    if failed or finished.problems:
        raise typer.Exit(1)

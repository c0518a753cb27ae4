"""`dpvae plot`: the paper's figures from results of runs, which are computed if missing."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from dpvae_cli.cli import console
from dpvae_cli.cli.errors import handle_errors
from dpvae_cli.cli.options import examples
from dpvae_cli.cli.run_io import RunOptions, with_run_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from dpvae_cli.plotting.gallery import Gallery
    from dpvae_cli.plotting.moons import PlanarModel
    from dpvae_cli.runs.loaded_run import LoadedRun

Record = TypeVar("Record", "PlanarModel", "Gallery")

plot = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Draw the paper's figures from runs.",
    epilog=examples("dpvae plot training", "dpvae plot leakage runs/*_mnist-*-seed0"),
)

Runs = Annotated[
    list[Path] | None,
    typer.Argument(metavar="RUN", help="Run folders or checkpoints (default: runs/latest)."),
]
OutStem = Annotated[
    Path | None,
    typer.Option(
        help="x.png or x.pdf writes that one, x both (default: figures/<name>).",
        show_default=False,
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME",
        help="Names of the runs in the figure, in order, separated by commas.",
        show_default=False,
    ),
]
FIGURES = Path("figures")


@plot.command(
    epilog=examples(
        "dpvae plot moons runs/beta_h_moons-standard_normal-seed0 runs/beta_h_moons-decoupled-seed0"
    )
)
@handle_errors
@with_run_options
def moons(
    options: RunOptions, runs: Runs = None, out: OutStem = None, labels: Labels = None
) -> None:
    """Draw Figure 1: samples, and the low-posterior ones in all three spaces, one row per run."""
    from dpvae_cli.plotting.moons import figure1
    from dpvae_cli.runs.figure_data import portrait_data

    _save(figure1(_records(portrait_data, options, runs, labels)), out, "moons")


@plot.command(epilog=examples("dpvae plot regularizers runs/*_moons-*-seed0 --out figure3"))
@handle_errors
@with_run_options
def regularizers(
    options: RunOptions, runs: Runs = None, out: OutStem = None, labels: Labels = None
) -> None:
    """Draw Figure 3: samples, log q(z), generation space and data, one block per run."""
    from dpvae_cli.plotting.regularizers import figure3
    from dpvae_cli.runs.figure_data import portrait_data

    _save(figure3(_records(portrait_data, options, runs, labels)), out, "regularizers")


@plot.command(epilog=examples("dpvae plot leakage runs/*_mnist-*-seed0 --out figure4.pdf"))
@handle_errors
@with_run_options
def leakage(
    options: RunOptions, runs: Runs = None, out: OutStem = None, labels: Labels = None
) -> None:
    """Draw Figure 4: the leakage score against its threshold, one curve per run.

    Reads `leak` from each run's metrics.json; measures it first where it is missing.
    """
    from dpvae_cli.plotting.leakage import figure4
    from dpvae_cli.runs.figure_data import leakage_data, with_labels

    titles = _titles(labels, runs)
    loaded = with_labels([options.load(run) for run in _run_paths(runs)])
    curves = [
        replace(curve, title=title)
        for (run, label), title in zip(loaded, titles, strict=True)
        for curve in leakage_data(run, label)
    ]
    _save(figure4(curves), out, "leakage")


@plot.command(epilog=examples("dpvae plot samples runs/factor_mnist-*-seed0 --out figure5"))
@handle_errors
@with_run_options
def samples(
    options: RunOptions, runs: Runs = None, out: OutStem = None, labels: Labels = None
) -> None:
    """Draw Figure 5: prior, low-posterior and high-posterior samples, one row per run."""
    from dpvae_cli.plotting.gallery import figure5
    from dpvae_cli.runs.figure_data import gallery_data

    _save(figure5(_records(gallery_data, options, runs, labels)), out, "samples")


@plot.command(epilog=examples("dpvae plot training", "dpvae plot training runs/* --out curves.png"))
@handle_errors
def training(runs: Runs = None, out: OutStem = None, labels: Labels = None) -> None:
    """Draw training curves from metrics.jsonl: ELBO, terms, sKL and active units."""
    from dpvae_cli.foundation.errors import MissingError
    from dpvae_cli.plotting import training as curves
    from dpvae_cli.runs.loaded_run import resolve_checkpoint
    from dpvae_cli.runs.metrics_log import MetricsLog
    from dpvae_cli.runs.run_folder import RunFolder

    read = []
    for run, title in zip(_run_paths(runs), _titles(labels, runs), strict=True):
        folder = RunFolder(resolve_checkpoint(run).parent)
        if not folder.metrics_log.is_file():
            raise MissingError(f"{folder.path} has no metrics.jsonl")
        records = MetricsLog.read(folder.metrics_log, strict=True)
        curve = curves.TrainingCurves.from_records(records, folder.path.resolve().name)
        read.append(replace(curve, title=title))
    _save(curves.training_figure(read), out, "training")


def _run_paths(runs: list[Path] | None) -> list[Path | None]:
    """Return the runs that are named, or [None] for the latest."""
    return [*runs] if runs else [None]


def _records(
    load: "Callable[[LoadedRun, str], Record]",
    options: RunOptions,
    runs: list[Path] | None,
    labels: str | None,
) -> "list[Record]":
    """Return what a figure shows of each run, under the given names."""
    from dpvae_cli.runs.figure_data import with_labels

    titles = _titles(labels, runs)
    loaded = with_labels([options.load(run) for run in _run_paths(runs)])
    records = [load(run, label) for run, label in loaded]
    return [replace(record, title=title) for record, title in zip(records, titles, strict=True)]


def _titles(labels: str | None, runs: list[Path] | None) -> list[str] | list[None]:
    """Return the name of each run in --labels, or None for each without that option.

    Raises:
        UsageError: there are more or fewer names than runs.
    """
    from dpvae_cli.foundation.errors import UsageError

    count = len(_run_paths(runs))
    if labels is None:
        return [None] * count
    names = [name.strip() for name in labels.split(",")]
    if len(names) != count:
        raise UsageError(
            f"--labels has {len(names)} names for {count} run{'s' * (count > 1)}: {labels}",
            hint="Give one name per run, in their order, separated by commas.",
        )
    return names


def _save(figure: "Figure", out: Path | None, name: str) -> None:
    from dpvae_cli.plotting import style

    paths = style.save(figure, FIGURES / name if out is None else out)
    console.result("\n".join(map(str, paths)))

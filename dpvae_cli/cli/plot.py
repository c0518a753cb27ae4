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
    from matplotlib.figure import Figure

    from dpvae_cli.plotting.gallery import Gallery
    from dpvae_cli.plotting.leakage import LeakageCurve
    from dpvae_cli.plotting.moons import PlanarModel
    from dpvae_cli.plotting.training import TrainingCurves

Record = TypeVar("Record", "PlanarModel", "Gallery", "LeakageCurve", "TrainingCurves")

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
    options: RunOptions,
    runs: Runs = None,
    out: OutStem = None,
    labels: Labels = None,
) -> None:
    """Draw Figure 1: samples, and the low-posterior ones in all three spaces, one row per run."""
    from dpvae_cli.plotting.moons import figure1
    from dpvae_cli.runs.figure_data import portrait_data, with_labels

    names = _names(labels, runs)
    loaded = [options.load(run) for run in _run_paths(runs)]
    models = [portrait_data(run, label) for run, label in with_labels(loaded)]
    _save(figure1(_with_titles(models, names)), out, "moons")


@plot.command(epilog=examples("dpvae plot regularizers runs/*_moons-*-seed0 --out figure3"))
@handle_errors
@with_run_options
def regularizers(
    options: RunOptions,
    runs: Runs = None,
    out: OutStem = None,
    labels: Labels = None,
) -> None:
    """Draw Figure 3: samples, log q(z), generation space and data, one block per run."""
    from dpvae_cli.plotting.regularizers import figure3
    from dpvae_cli.runs.figure_data import portrait_data, with_labels

    names = _names(labels, runs)
    loaded = [options.load(run) for run in _run_paths(runs)]
    models = [portrait_data(run, label) for run, label in with_labels(loaded)]
    _save(figure3(_with_titles(models, names)), out, "regularizers")


@plot.command(epilog=examples("dpvae plot leakage runs/*_mnist-*-seed0 --out figure4.pdf"))
@handle_errors
@with_run_options
def leakage(
    options: RunOptions,
    runs: Runs = None,
    out: OutStem = None,
    labels: Labels = None,
) -> None:
    """Draw Figure 4: the leakage score against its threshold, one curve per run.

    Reads `leak` from each run's metrics.json; measures it first where it is missing.
    """
    from dpvae_cli.plotting.leakage import figure4
    from dpvae_cli.runs.figure_data import leakage_data, with_labels

    names = _names(labels, runs)
    loaded = [options.load(run) for run in _run_paths(runs)]
    titles: list[str | None] = [*names] if names else [None] * len(loaded)
    curves = [
        replace(curve, title=name)
        for (run, label), name in zip(with_labels(loaded), titles, strict=True)
        for curve in leakage_data(run, label)
    ]
    _save(figure4(curves), out, "leakage")


@plot.command(epilog=examples("dpvae plot samples runs/factor_mnist-*-seed0 --out figure5"))
@handle_errors
@with_run_options
def samples(
    options: RunOptions,
    runs: Runs = None,
    out: OutStem = None,
    labels: Labels = None,
) -> None:
    """Draw Figure 5: prior, low-posterior and high-posterior samples, one row per run."""
    from dpvae_cli.plotting.gallery import figure5
    from dpvae_cli.runs.figure_data import gallery_data, with_labels

    names = _names(labels, runs)
    loaded = [options.load(run) for run in _run_paths(runs)]
    galleries = [gallery_data(run, label) for run, label in with_labels(loaded)]
    _save(figure5(_with_titles(galleries, names)), out, "samples")


@plot.command(epilog=examples("dpvae plot training", "dpvae plot training runs/* --out curves.png"))
@handle_errors
def training(runs: Runs = None, out: OutStem = None, labels: Labels = None) -> None:
    """Draw training curves from metrics.jsonl: ELBO, terms, sKL and active units."""
    from dpvae_cli.foundation.errors import MissingError
    from dpvae_cli.plotting import training as curves
    from dpvae_cli.runs.metrics_log import MetricsLog
    from dpvae_cli.runs.paths import resolve_checkpoint
    from dpvae_cli.runs.run_folder import RunFolder

    read, names = [], _names(labels, runs)
    for run in _run_paths(runs):
        folder = RunFolder(resolve_checkpoint(run).parent)
        if not folder.metrics_log.is_file():
            raise MissingError(f"{folder.path} has no metrics.jsonl")
        read.append(
            curves.TrainingCurves.from_records(
                MetricsLog.read(folder.metrics_log, strict=True), folder.path.resolve().name
            )
        )
    _save(curves.figure(_with_titles(read, names)), out, "training")


def _run_paths(runs: list[Path] | None) -> list[Path | None]:
    """Return the runs that are named, or [None] for the latest."""
    return [*runs] if runs else [None]


def _names(labels: str | None, runs: list[Path] | None) -> list[str] | None:
    """Return a name for each run; None where none were given.

    Raises:
        UsageError: there are more or fewer names than runs.
    """
    from dpvae_cli.foundation.errors import UsageError

    if labels is None:
        return None
    names, count = [name.strip() for name in labels.split(",")], len(_run_paths(runs))
    if len(names) != count:
        raise UsageError(
            f"--labels has {len(names)} names for {count} run{'s' * (count > 1)}: {labels}",
            hint="Give one name per run, in their order, separated by commas.",
        )
    return names


def _with_titles(records: "list[Record]", names: list[str] | None) -> "list[Record]":
    """Return what a figure shows of the runs, under these names."""
    if names is None:
        return records
    return [replace(record, title=name) for record, name in zip(records, names, strict=True)]


def _save(figure: "Figure", out: Path | None, name: str) -> None:
    from dpvae_cli.plotting import style

    paths = style.save(figure, FIGURES / name if out is None else out)
    console.result("\n".join(map(str, paths)))

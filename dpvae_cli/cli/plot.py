"""`dpvae plot`: the paper's figures from runs' result files; what is missing is made first."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from dpvae_cli.cli import console
from dpvae_cli.cli.errors import handle_errors
from dpvae_cli.cli.opening import opened
from dpvae_cli.cli.options import Best, DataRoot, Device, NoDownload, examples

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dpvae_cli.plotting.gallery import Gallery
    from dpvae_cli.plotting.leakage import LeakageCurve
    from dpvae_cli.plotting.moons import Portrait
    from dpvae_cli.plotting.training import TrainingCurves
    from dpvae_cli.runs.loaded_run import LoadedRun

Record = TypeVar("Record", "Portrait", "Gallery", "LeakageCurve", "TrainingCurves")

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
        help="Names of the runs in the figure, in their order, separated by commas.",
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
def moons(
    runs: Runs = None,
    out: OutStem = None,
    labels: Labels = None,
    best: Best = False,
    device: Device = "auto",
    data_root: DataRoot = None,
    no_download: NoDownload = False,
) -> None:
    """Draw Figure 1: samples, and the low-posterior ones in all three spaces, a row a run."""
    from dpvae_cli.plotting.moons import figure1
    from dpvae_cli.runs.figure_data import portrait_data, with_labels

    names = _names(labels, runs)
    found = _open(runs, best=best, device=device, data_root=data_root, no_download=no_download)
    portraits = [portrait_data(run, label) for run, label in with_labels(found)]
    _save(figure1(_titled(portraits, names)), out, "moons")


@plot.command(epilog=examples("dpvae plot regularizers runs/*_moons-*-seed0 --out figure3"))
@handle_errors
def regularizers(
    runs: Runs = None,
    out: OutStem = None,
    labels: Labels = None,
    best: Best = False,
    device: Device = "auto",
    data_root: DataRoot = None,
    no_download: NoDownload = False,
) -> None:
    """Draw Figure 3: a block a run with samples, log q(z), generation space and training data."""
    from dpvae_cli.plotting.regularizers import figure3
    from dpvae_cli.runs.figure_data import portrait_data, with_labels

    names = _names(labels, runs)
    found = _open(runs, best=best, device=device, data_root=data_root, no_download=no_download)
    portraits = [portrait_data(run, label) for run, label in with_labels(found)]
    _save(figure3(_titled(portraits, names)), out, "regularizers")


@plot.command(epilog=examples("dpvae plot leakage runs/*_mnist-*-seed0 --out figure4.pdf"))
@handle_errors
def leakage(
    runs: Runs = None,
    out: OutStem = None,
    labels: Labels = None,
    best: Best = False,
    device: Device = "auto",
    data_root: DataRoot = None,
    no_download: NoDownload = False,
) -> None:
    """Draw Figure 4: the leakage score against its threshold, a curve a run.

    Reads `leak` from each run's metrics.json; measures it first where it is not there.
    """
    from dpvae_cli.plotting.leakage import figure4
    from dpvae_cli.runs.figure_data import leakage_data, with_labels

    names = _names(labels, runs)
    found = _open(runs, best=best, device=device, data_root=data_root, no_download=no_download)
    titles: list[str | None] = [*names] if names else [None] * len(found)
    curves = [
        replace(curve, title=name)
        for (run, label), name in zip(with_labels(found), titles, strict=True)
        for curve in leakage_data(run, label)
    ]
    _save(figure4(curves), out, "leakage")


@plot.command(epilog=examples("dpvae plot samples runs/factor_mnist-*-seed0 --out figure5"))
@handle_errors
def samples(
    runs: Runs = None,
    out: OutStem = None,
    labels: Labels = None,
    best: Best = False,
    device: Device = "auto",
    data_root: DataRoot = None,
    no_download: NoDownload = False,
) -> None:
    """Draw Figure 5: prior, low-posterior and high-posterior samples, a row a run."""
    from dpvae_cli.plotting.gallery import figure5
    from dpvae_cli.runs.figure_data import gallery_data, with_labels

    names = _names(labels, runs)
    found = _open(runs, best=best, device=device, data_root=data_root, no_download=no_download)
    galleries = [gallery_data(run, label) for run, label in with_labels(found)]
    _save(figure5(_titled(galleries, names)), out, "samples")


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
    for run in _places(runs):
        folder = RunFolder(resolve_checkpoint(run).parent)
        if not folder.metrics_log.is_file():
            raise MissingError(f"{folder.path} has no metrics.jsonl")
        read.append(
            curves.TrainingCurves.from_records(
                MetricsLog.read(folder.metrics_log, strict=True), folder.path.resolve().name
            )
        )
    _save(curves.figure(_titled(read, names)), out, "training")


def _open(runs: list[Path] | None, **options: Any) -> "list[LoadedRun]":
    return [opened(run, **options) for run in _places(runs)]


def _places(runs: list[Path] | None) -> list[Path | None]:
    """Return the runs named, or the one None that stands for the latest."""
    return [*runs] if runs else [None]


def _names(labels: str | None, runs: list[Path] | None) -> list[str] | None:
    """Return a name for each run; None where none were given.

    Raises:
        UsageError: there are more or fewer names than runs.
    """
    from dpvae_cli.foundation.errors import UsageError

    if labels is None:
        return None
    names, count = [name.strip() for name in labels.split(",")], len(_places(runs))
    if len(names) != count:
        raise UsageError(
            f"--labels has {len(names)} names for {count} run{'s' * (count > 1)}: {labels}",
            hint="Give one name a run, in their order, separated by commas.",
        )
    return names


def _titled(records: "list[Record]", names: list[str] | None) -> "list[Record]":
    """Return what a figure shows of the runs, under these names."""
    if names is None:
        return records
    return [replace(record, title=name) for record, name in zip(records, names, strict=True)]


def _save(figure: "Figure", out: Path | None, name: str) -> None:
    from dpvae_cli.plotting import style

    paths = style.save(figure, FIGURES / name if out is None else out)
    console.result("\n".join(map(str, paths)))

"""`dpvae plot`: the paper's figures from results of runs, which are computed if missing."""

from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated

import typer

from dpvae_cli.cli import console
from dpvae_cli.cli.errors import handle_errors
from dpvae_cli.cli.options import examples
from dpvae_cli.cli.run_io import RunOptions, with_run_options
from dpvae_cli.foundation.errors import MissingError, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    typer.Option(help="x.png or x.pdf writes that one, x both (default: figures/<name>)."),
]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME", help="Names of the runs in the figure, in order, separated by commas."
    ),
]
FIGURES = Path("figures")


PLOTS = {
    "moons": (
        "Draw Figure 1: samples, and the low-posterior ones in all three spaces, one row per run.",
        "portrait_data",
        "moons:figure1",
        "runs/beta_h_moons-standard_normal-seed0 runs/beta_h_moons-decoupled-seed0",
    ),
    "regularizers": (
        "Draw Figure 3: samples, log q(z), generation space and data, one block per run.",
        "portrait_data",
        "moons:figure3",
        "runs/*_moons-*-seed0 --out figure3",
    ),
    "leakage": (
        "Draw Figure 4: the leakage score against its threshold, one curve per run.\n\n"
        "Reads `leak` from each run's metrics.json; measures it first where it is missing.",
        "leakage_data",
        "leakage:figure4",
        "runs/*_mnist-*-seed0 --out figure4.pdf",
    ),
    "samples": (
        "Draw Figure 5: prior, low-posterior and high-posterior samples, one row per run.",
        "gallery_data",
        "gallery:figure5",
        "runs/factor_mnist-*-seed0 --out figure5",
    ),
}
"""Of each command: help, what it loads of a run, what draws it, and an example."""


def _add_command(name: str, text: str, load: str, draw: str, example: str) -> None:
    @plot.command(name, help=text, epilog=examples(f"dpvae plot {name} {example}"))
    @handle_errors
    @with_run_options
    def command(
        options: RunOptions, runs: Runs = None, out: OutStem = None, labels: Labels = None
    ) -> None:
        from dpvae_cli.runs import figure_data

        titles = _titles(labels, runs)
        loaded = figure_data.with_labels([options.load(run) for run in _run_paths(runs)])
        records = [getattr(figure_data, load)(run, label) for run, label in loaded]
        titled = [replace(r, title=title) for r, title in zip(records, titles, strict=True)]
        _save(resolve_name(f"dpvae_cli.plotting.{draw}")(titled), out, name)


for name, words in PLOTS.items():
    _add_command(name, *words)


@plot.command(epilog=examples("dpvae plot training", "dpvae plot training runs/* --out curves.png"))
@handle_errors
def training(runs: Runs = None, out: OutStem = None, labels: Labels = None) -> None:
    """Draw training curves from metrics.jsonl: ELBO, terms, sKL and active units."""
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


def _titles(labels: str | None, runs: list[Path] | None) -> list[str] | list[None]:
    """Return the name of each run in --labels, or None for each without that option.

    Raises:
        UsageError: there are more or fewer names than runs.
    """
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

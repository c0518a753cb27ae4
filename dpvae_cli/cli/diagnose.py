"""`dpvae diagnose`: on one page, whether a model is well and what would mend it."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpvae_cli.cli import console
from dpvae_cli.cli.errors import handle_errors
from dpvae_cli.cli.options import (
    CheckpointPath,
    FidDimensions,
    InceptionWeights,
    Quiet,
    Seed,
    examples,
)
from dpvae_cli.cli.run_io import RunOptions, output_path, with_run_options

if TYPE_CHECKING:
    from dpvae_cli.diagnosis import Diagnosis, DiagnosisBudget
    from dpvae_cli.diagnosis.low_posterior import SampleMetric
    from dpvae_cli.diagnosis.page import About
    from dpvae_cli.evaluation.context import EvaluationContext
    from dpvae_cli.evaluation.features import FeatureOptions
    from dpvae_cli.runs.loaded_run import LoadedRun

EXAMPLES = examples(
    "dpvae diagnose",
    "dpvae diagnose runs/beta_h_moons-standard_normal-seed0",
    "dpvae diagnose runs/vae_mnist-decoupled-seed0 --quick --json",
    "dpvae diagnose runs/vae_mnist-decoupled-seed0 --inception-weights inception.pth",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EXAMPLES)(diagnose)


@handle_errors
@with_run_options
def diagnose(
    options: RunOptions,
    checkpoint: CheckpointPath = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Try no other priors and decode nothing: the prior and the codes alone."
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The page (.html), its numbers beside it as .json; without a suffix a folder "
            "(default: diagnosis.html in the run folder).",
            show_default=False,
        ),
    ] = None,
    fid_dimensions: FidDimensions = None,
    inception_weights: InceptionWeights = None,
    repeats: Annotated[
        int,
        typer.Option(min=1, max=1_000, help="Sample sets for FID; their spread is its error."),
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON alone on stdout.")] = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Find pockets, leaks and inactive dimensions; recommend a prior.

    Every number stands beside the same number where q(z) equals the prior. Prints a page and
    writes diagnosis.html and diagnosis.json; the verdict does not change the exit code. FID is
    measured only where --inception-weights or --fid-dimensions asks for it, and never downloads.
    """
    from dpvae_cli.diagnosis.writing import document, write_diagnosis
    from dpvae_cli.evaluation.features import FeatureOptions

    features = FeatureOptions(
        dimensions=fid_dimensions, weights=inception_weights, repeats=repeats, download=False
    )
    run = options.load(checkpoint, quiet=quiet)
    default = run.folder.path / "diagnosis.html"
    path = output_path(out, default, suffixes=(".html",), what="pages")
    asks_fid = fid_dimensions is not None or inception_weights is not None
    found = _diagnosed(run, features, asks_fid=asks_fid, quick=quick, seed=seed)
    about = _about(run, checkpoint, best=options.best)
    written = write_diagnosis(found, about, path)
    if as_json:
        console.result(json.dumps(document(found, about), indent=2, allow_nan=False))
        return
    _print(found, about)
    console.result("\n".join(map(str, written)))


def _diagnosed(
    run: "LoadedRun",
    features: "FeatureOptions",
    *,
    asks_fid: bool,
    quick: bool,
    seed: int,
) -> "Diagnosis":
    from dpvae_cli.diagnosis.run import run_diagnosis
    from dpvae_cli.foundation.results import validate_results
    from dpvae_cli.runs import results_file

    return run_diagnosis(
        _context(run, features, seed=seed),
        budget=_budget(run, quick=quick),
        compare=_compared(run, asks_fid=asks_fid, quick=quick),
        earlier=validate_results(results_file.read_results(run).get("results")),
        overfits_since=_overfits_since(run),
    )


def _overfits_since(run: "LoadedRun") -> int | None:
    """Return the iteration whose checkpoint --best takes in place of one that overfits."""
    from dpvae_cli.runs.metrics_log import overfitting_start

    if not run.folder.best.is_file() or run.path == run.folder.best:
        return None
    return overfitting_start(run.folder.metrics_log, until=run.iteration)


def _context(run: "LoadedRun", features: "FeatureOptions", *, seed: int) -> "EvaluationContext":
    from dpvae_cli.evaluation.context import EvaluationContext

    return EvaluationContext(
        run.model,
        run.load_dataset,
        run.encoded,
        run.recipe.evaluation,
        seed,
        features=features,
        training_note=run.data_note,
    )


def _budget(run: "LoadedRun", *, quick: bool) -> "DiagnosisBudget":
    from dpvae_cli.diagnosis import DiagnosisBudget
    from dpvae_cli.diagnosis.candidates import CANDIDATE_PRIORS

    return DiagnosisBudget(
        tried={} if quick else CANDIDATE_PRIORS,
        fitting=run.recipe.fitting,
        fit_seed=run.recipe.seed,
    )


def _compared(run: "LoadedRun", *, asks_fid: bool, quick: bool) -> "SampleMetric | None":
    """Return how decoded samples are compared with the data, if at all."""
    if asks_fid:
        return "fid"
    return "manifold" if run.recipe.data.knows_manifold and not quick else None


def _about(run: "LoadedRun", given: Path | None, *, best: bool) -> "About":
    from dpvae_cli.diagnosis.page import About

    given_place = shlex.quote(str(given or run.path.parent))
    place = given_place.replace("{", "{{").replace("}", "}}")
    return About(
        run=run.label,
        checkpoint=str(run.path),
        digest=run.digest,
        iteration=run.iteration,
        recipe=run.recipe.name,
        comparison=f"dpvae plot samples {shlex.quote(str(run.path)) if best else given_place}",
        command=f"dpvae fit-prior {place} {{options}}" + (" --best" if best else ""),
        data_note=run.data_note,
    )


def _print(found: "Diagnosis", about: "About") -> None:
    from dpvae_cli.diagnosis import tables
    from dpvae_cli.diagnosis.verdict import describe_dimensions, recommendation, summarize

    advice, command = recommendation(found, about.command)
    console.result("\n".join([summarize(found), *describe_dimensions(found)]))
    console.table(None, *tables.quantities(found))
    if (low := tables.low_posterior(found)) is not None:
        console.table(None, *low)
    else:
        why = found.low_posterior
        console.result(f"Random and low-posterior samples: {why.reason}. {why.hint}".strip())
    if found.repairs:
        console.table(None, *tables.repairs(found))
    commands = [command and f"  {command}"]
    if command or "samples" in found.arrays:
        commands.append(f"  {about.comparison_after(command)}")
    console.result("\n".join(filter(None, [*found.notes, advice, *commands])))

"""`dpvae diagnose`: find mismatches of prior and codes, and recommend a better prior."""

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
    from dpvae_cli.diagnosis import Diagnosis
    from dpvae_cli.diagnosis.page import About
    from dpvae_cli.diagnosis.run import SampleMetric

EXAMPLES = examples(
    "dpvae diagnose",
    "dpvae diagnose runs/beta_h_moons-standard_normal-seed0",
    "dpvae diagnose runs/vae_mnist-decoupled-seed0 --quick --json",
    "dpvae diagnose runs/vae_mnist-decoupled-seed0 --inception-weights inception.pth",
)


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
    from dpvae_cli.diagnosis import DiagnosisBudget
    from dpvae_cli.diagnosis.candidates import CANDIDATE_PRIORS
    from dpvae_cli.diagnosis.page import About, document, write_diagnosis
    from dpvae_cli.diagnosis.run import run_diagnosis
    from dpvae_cli.evaluation.features import FeatureOptions
    from dpvae_cli.foundation.results import validate_results
    from dpvae_cli.runs import results_file
    from dpvae_cli.runs.evaluate_run import evaluation_context
    from dpvae_cli.runs.metrics_log import overfitting_start

    features = FeatureOptions(
        dimensions=fid_dimensions, weights=inception_weights, repeats=repeats, download=False
    )
    run = options.load(checkpoint, quiet=quiet)
    default = run.folder.path / "diagnosis.html"
    path = output_path(out, default, suffixes=(".html",), what="pages")
    compare: SampleMetric | None = None
    if fid_dimensions is not None or inception_weights is not None:
        compare = "fid"
    elif run.recipe.data.knows_manifold and not quick:
        compare = "manifold"
    has_better = run.folder.best.is_file() and run.path != run.folder.best
    diagnosis = run_diagnosis(
        evaluation_context(run, seed=seed, features=features),
        budget=DiagnosisBudget(
            tried={} if quick else CANDIDATE_PRIORS,
            fitting=run.recipe.fitting,
            fit_seed=run.recipe.seed,
        ),
        compare=compare,
        earlier=validate_results(results_file.read_results(run).get("results")),
        overfits_since=overfitting_start(run.folder.metrics_log, until=run.iteration)
        if has_better
        else None,
    )
    place = shlex.quote(str(checkpoint or run.path.parent))
    in_template = place.replace("{", "{{").replace("}", "}}")
    about = About(
        run=run.label,
        checkpoint=str(run.path),
        checkpoint_digest=run.digest,
        iteration=run.iteration,
        recipe=run.recipe.name,
        comparison=f"dpvae plot samples {shlex.quote(str(run.path)) if options.best else place}",
        command=f"dpvae fit-prior {in_template} {{options}}" + " --best" * options.best,
        data_note=run.data_note,
    )
    written = write_diagnosis(diagnosis, about, path)
    if as_json:
        console.result(json.dumps(document(diagnosis, about), indent=2, allow_nan=False))
        return
    _print(diagnosis, about)
    console.result("\n".join(map(str, written)))


def _print(diagnosis: "Diagnosis", about: "About") -> None:
    from dpvae_cli.diagnosis import tables
    from dpvae_cli.diagnosis.verdict import describe_dimensions, recommendation, summarize

    advice, command = recommendation(diagnosis, about.command)
    console.result("\n".join([summarize(diagnosis), *describe_dimensions(diagnosis)]))
    console.table(None, *tables.quantities(diagnosis))
    if (low := tables.low_posterior_table(diagnosis)) is not None:
        console.table(None, *low)
    else:
        why = diagnosis.low_posterior
        console.result(f"Random and low-posterior samples: {why.reason}. {why.hint}".strip())
    if diagnosis.repairs:
        console.table(None, *tables.repairs(diagnosis))
    commands = [command and f"  {command}"]
    if command or "samples" in diagnosis.arrays:
        commands.append(f"  {about.comparison_after(command)}")
    console.result("\n".join(filter(None, [*diagnosis.notes, advice, *commands])))

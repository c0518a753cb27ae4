"""`dpvae diagnose`: find mismatches of prior and codes, and recommend a better prior."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpvae_cli.cli import console
from dpvae_cli.cli.errors import handle_errors
from dpvae_cli.cli.options import (
    CheckpointPath,
    CodesFile,
    FidDimensions,
    InceptionWeights,
    PriorFile,
    Quiet,
    Seed,
    examples,
)
from dpvae_cli.cli.run_io import (
    LoadedCodes,
    RunOptions,
    check_codes,
    load_codes,
    output_path,
    with_run_options,
)
from dpvae_cli.foundation.errors import UsageError

if TYPE_CHECKING:
    from dpvae_cli.diagnosis import Diagnosis
    from dpvae_cli.diagnosis.page import About
    from dpvae_cli.evaluation.features import FeatureOptions
    from dpvae_cli.runs.loaded_run import LoadedRun

EXAMPLES = examples(
    "dpvae diagnose",
    "dpvae diagnose runs/beta_h_moons-standard_normal-seed0",
    "dpvae diagnose runs/vae_mnist-decoupled-seed0 --quick --json",
    "dpvae diagnose runs/vae_mnist-decoupled-seed0 --inception-weights inception.pth",
    "dpvae diagnose --codes codes.npz --prior prior.pt",
)


@handle_errors
@with_run_options
def diagnose(
    options: RunOptions,
    checkpoint: CheckpointPath = None,
    codes: CodesFile = None,
    prior: PriorFile = None,
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
            "(default: diagnosis.html in the run folder, or beside the codes)."
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
    from dpvae_cli.evaluation.own_codes import context_of_codes
    from dpvae_cli.foundation import devices
    from dpvae_cli.recipe import Fitting
    from dpvae_cli.runs.evaluate_run import evaluation_context

    check_codes(codes, prior, [] if checkpoint is None else [checkpoint])
    fitting, fit_seed, known = Fitting(), 0, {}
    if codes is not None:
        about, found = _about_codes(codes, prior)
        place = devices.resolve(options.device)
        context = context_of_codes(found.codes, found.prior, held_out=0.0, seed=seed, device=place)
        default = codes.with_name("diagnosis.html")
    else:
        features = FeatureOptions(
            dimensions=fid_dimensions, weights=inception_weights, repeats=repeats, download=False
        )
        run = options.load(checkpoint, quiet=quiet)
        named = shlex.quote(str(checkpoint or run.path.parent))
        compared = shlex.quote(str(run.path)) if options.best else named
        about = About(
            run=run.label,
            checkpoint=str(run.path),
            checkpoint_digest=run.digest,
            iteration=run.iteration,
            recipe=run.recipe.name,
            comparison=f"dpvae plot samples {compared}",
            command=f"dpvae fit-prior {_in_template(named)} {{options}}" + " --best" * options.best,
            data_note=run.data_note,
        )
        context = evaluation_context(run, seed=seed, features=features)
        fitting, fit_seed = run.recipe.fitting, run.recipe.seed
        known = _known_results(run, features, quick=quick)
        default = run.folder.path / "diagnosis.html"
    path = output_path(out, default, suffixes=(".html",), what="pages")
    budget = DiagnosisBudget(
        tried={} if quick else CANDIDATE_PRIORS, fitting=fitting, fit_seed=fit_seed
    )
    diagnosis = run_diagnosis(context, budget=budget, **known)
    written = write_diagnosis(diagnosis, about, path)
    if as_json:
        console.result(json.dumps(document(diagnosis, about), indent=2, allow_nan=False))
        return
    _print(diagnosis, about)
    console.result("\n".join(map(str, written)))


def _known_results(run: "LoadedRun", features: "FeatureOptions", *, quick: bool) -> dict[str, Any]:
    """Return what a diagnosis takes from the files of a run, and how it compares samples."""
    from dpvae_cli.foundation.results import validate_results
    from dpvae_cli.runs import results_file
    from dpvae_cli.runs.metrics_log import overfitting_start

    compare = None
    if features.dimensions is not None or features.weights is not None:
        compare = "fid"
    elif run.recipe.data.knows_manifold and not quick:
        compare = "manifold"
    has_better = run.folder.best.is_file() and run.path != run.folder.best
    log = run.folder.metrics_log
    return {
        "compare": compare,
        "earlier": validate_results(results_file.read_results(run).get("results")),
        "overfits_since": overfitting_start(log, until=run.iteration) if has_better else None,
    }


def _about_codes(codes: Path, prior: Path | None) -> "tuple[About, LoadedCodes]":
    """Read codes of a file, under N(0, I) or the prior of a file; all of them make up q(z)."""
    from dpvae_cli.diagnosis.page import About

    found = load_codes(codes, prior)
    if found.codes.log_variance is None:
        raise UsageError(
            f"{codes} has no log_variance: its codes are points, and q(z) has no density",
            hint="Save the encoder's log-variances too, or measure c2st: dpvae eval --codes FILE.",
        )
    fitted = str(codes.with_name("fitted.pt"))
    place = f"--codes {shlex.quote(str(codes))} --out {shlex.quote(fitted)}"
    about = About(
        run=codes.name,
        checkpoint=str(codes),
        checkpoint_digest=found.digest,
        iteration=None,
        recipe="codes",
        comparison="dpvae sample",
        command=f"dpvae fit-prior {_in_template(place)} {{options}}",
        fitted=shlex.quote(fitted),
    )
    return about, found


def _in_template(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _print(diagnosis: "Diagnosis", about: "About") -> None:
    from dpvae_cli.diagnosis import page
    from dpvae_cli.diagnosis.verdict import describe_dimensions, recommendation, summarize

    advice, command = recommendation(diagnosis, about.command)
    console.result("\n".join([summarize(diagnosis), *describe_dimensions(diagnosis)]))
    console.table(None, *page.quantities(diagnosis))
    if (low := page.low_posterior_table(diagnosis)) is not None:
        console.table(None, *low)
    else:
        why = diagnosis.low_posterior
        console.result(f"Random and low-posterior samples: {why.reason}. {why.hint}".strip())
    if diagnosis.support:
        console.table(None, *page.support(diagnosis))
        console.result(page.SUPPORT)
    if diagnosis.repairs:
        console.table(None, *page.repairs(diagnosis))
    commands = [command and f"  {command}"]
    if command or "samples" in diagnosis.arrays:
        commands.append(f"  {about.comparison_after(command)}")
    console.result("\n".join(filter(None, [*diagnosis.notes, advice, *commands])))

"""`dpvae eval`: Table 1's metrics of one run or several."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpvae_cli.cli import console
from dpvae_cli.cli.completion import complete_metrics
from dpvae_cli.cli.errors import exit_code, handle_errors
from dpvae_cli.cli.options import (
    MAX_COUNT,
    CodesFile,
    FidDimensions,
    InceptionWeights,
    PriorFile,
    Quiet,
    Seed,
    examples,
)
from dpvae_cli.cli.run_io import RunOptions, check_codes, load_codes, with_run_options
from dpvae_cli.evaluation.metrics import METRICS, list_metrics
from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.foundation.text import path_exists

if TYPE_CHECKING:
    from dpvae_cli.evaluation.features import FeatureOptions
    from dpvae_cli.evaluation.metrics import Need
    from dpvae_cli.foundation.results import RunResults
    from dpvae_cli.recipe import Recipe
    from dpvae_cli.runs.loaded_run import LoadedRun

EXAMPLES = examples(
    "dpvae eval",
    "dpvae eval --metrics skl,nll,leak runs/factor_mnist-decoupled-seed0",
    "dpvae eval runs/beta_h_moons-standard_normal-seed0 runs/beta_h_moons-decoupled-seed0",
    "dpvae eval ckpt.pt --metrics nll --limit 64 --json > nll.json",
    "dpvae eval runs/vae_mnist-decoupled-seed0 --metrics fid,fid_lp,kid --repeats 3",
    "dpvae eval --metrics fid --fid-dimensions 768 --inception-weights inception.pth",
    "dpvae eval --metrics fid,kid --features dino.pt2 --trust-features",
    "dpvae eval --metrics fid,recall --features-name dinov2-vit-b-14",
    "dpvae eval runs/beta_tc_sprites-decoupled-seed0 --metrics mig,dci,sap,probe",
    "dpvae eval --codes codes.npz --prior prior.pt --metrics skl,leak,c2st",
)
DEFAULT = ", ".join(name for name, metric in METRICS.items() if metric.is_default)
ON_REQUEST = " and ".join(name for name, metric in METRICS.items() if metric.is_on_request)


@handle_errors
@with_run_options
def evaluate(
    options: RunOptions,
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CKPT|KEY=VALUE",
            help="Checkpoints or run folders (default: runs/latest), and evaluation.KEY=VALUE.",
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help=f"Comma-separated: {list_metrics()}; or all: everything that data and prior allow "
            f"but {ON_REQUEST} (default: {DEFAULT}, those that the data allows).",
            autocompletion=complete_metrics,
        ),
    ] = None,
    codes: CodesFile = None,
    prior: PriorFile = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, max=MAX_COUNT, help="Held-out images for nll: short for evaluation.nll_images=N."
        ),
    ] = None,
    fid_dimensions: FidDimensions = None,
    inception_weights: InceptionWeights = None,
    features: Annotated[
        Path | None,
        typer.Option(
            help="Exported feature extractor (.pt2 or TorchScript) in place of Inception; images "
            "in [0, 1] -> features. It is code: needs --trust-features."
        ),
    ] = None,
    trust_features: Annotated[
        bool, typer.Option("--trust-features", help="Run the code in --features FILE.")
    ] = False,
    features_name: Annotated[
        str | None,
        typer.Option(
            help="A named extractor in place of Inception: dinov2-vit-s-14, dinov2-vit-b-14 or "
            "dinov2-vit-l-14, through torch-fidelity."
        ),
    ] = None,
    features_weights: Annotated[
        Path | None,
        typer.Option(help="Weights of --features-name (default: torch's hub cache)."),
    ] = None,
    repeats: Annotated[
        int,
        typer.Option(
            min=1, max=1_000, help="Sample sets for fid and fid_lp; their spread is its error."
        ),
    ] = 1,
    reference: Annotated[
        Path | None,
        typer.Option(
            help="Statistics (pytorch-fid's .npz) to compare with in place of training images."
        ),
    ] = None,
    save_reference: Annotated[
        Path | None,
        typer.Option(help="Write the statistics compared with to this .npz, for pytorch-fid too."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON alone on stdout.")] = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Compute metrics of samples and codes, with standard errors.

    Prints a table (several runs side by side, two with their difference) and keeps metrics.json
    in each run folder. Exit code 1 if a metric failed; the others are kept.
    """
    from dpvae_cli.evaluation.features import FeatureOptions
    from dpvae_cli.foundation.results import results_document

    if features_name is None and features_weights is not None:
        raise UsageError(
            "--features-weights are those of --features-name, which is not given",
            hint="Add --features-name dinov2-vit-b-14.",
        )
    if features_name is not None and inception_weights is not None:
        raise UsageError("--features-name replaces Inception: leave out --inception-weights")
    looked_at = FeatureOptions(
        dimensions=fid_dimensions,
        weights=inception_weights if features_name is None else features_weights,
        name=features_name,
        features=features,
        trust=trust_features,
        reference=reference,
        save_reference=save_reference,
        repeats=repeats,
        download=not options.no_download,
    )
    overrides = [run for run in runs or [] if "=" in run and not path_exists(run)]
    paths: list[Path | None] = [Path(run) for run in runs or [] if run not in overrides]
    overrides += [] if limit is None else [f"evaluation.nll_images={limit}"]
    check_codes(codes, prior, [path for path in paths if path])
    failed = False
    measured = []
    found: list[LoadedRun] = []
    if codes is not None:
        results, failures = _measure_codes(
            codes, prior, metrics, overrides, seed=seed, device=options.device
        )
        measured.append(results)
        failed = not _report(codes.name, results, failures)
    else:
        found = [options.load(path, quiet=quiet) for path in paths or [None]]
    for run in found:
        results, failures = _measure(run, metrics, overrides, seed=seed, features=looked_at)
        measured.append(results)
        failed = not _report(run.label, results, failures) or failed
    if as_json:
        console.result(json.dumps(results_document(measured), indent=2, allow_nan=False))
    else:
        _print(measured, [run.recipe for run in found])
    if failed:
        raise typer.Exit(1)


def _measure(
    run: "LoadedRun",
    metrics: str | None,
    overrides: list[str],
    *,
    seed: int,
    features: "FeatureOptions",
) -> "tuple[RunResults, dict[str, DpvaeError]]":
    """Measure one run and keep metrics.json; return the metrics that failed as well."""
    from dpvae_cli.evaluation.evaluate import metric_names
    from dpvae_cli.recipe.loading import with_overrides
    from dpvae_cli.runs.evaluate_run import evaluate_run

    # what a file holds is only known when it is read, and only `all` has to know
    train = run.load_dataset().train if metrics and metrics.strip() == "all" else None
    has: dict[Need, bool] = {
        "manifold": run.recipe.data.knows_manifold,
        "images": is_image(run.model.example_shape),
        "generation space": run.model.prior.generation is not None,
        "factors": train is not None and train.factors is not None,
        "labels": train is not None and train.labels is not None,
        "a prior given labels": bool(run.model.prior.labels),
    }
    names = metric_names(metrics, [need for need, holds in has.items() if holds])
    recipe = with_overrides(run.recipe, overrides, section="evaluation")
    return evaluate_run(run, names, evaluation=recipe.evaluation, seed=seed, features=features)


def _measure_codes(
    codes: Path,
    prior: Path | None,
    metrics: str | None,
    overrides: list[str],
    *,
    seed: int,
    device: str,
) -> "tuple[RunResults, dict[str, DpvaeError]]":
    """Measure codes of a file, under N(0, I) or the prior of a file; keep nothing."""
    from dpvae_cli.evaluation.evaluate import measure
    from dpvae_cli.evaluation.own_codes import context_of_codes, metrics_of_codes
    from dpvae_cli.foundation import devices
    from dpvae_cli.foundation.results import RunResults
    from dpvae_cli.recipe.loading import evaluation_options

    found = load_codes(codes, prior)
    names = metrics_of_codes(metrics, found.codes, found.prior)
    context = context_of_codes(
        found.codes,
        found.prior,
        evaluation=evaluation_options(overrides),
        seed=seed,
        device=devices.resolve(device),
    )
    results, failures = measure(context, names)
    record = RunResults(codes.name, str(codes), "codes", tuple(results), found.digest, 0)
    return record, failures


def _report(label: str, record: "RunResults", failures: "dict[str, DpvaeError]") -> bool:
    """Report notes and failures of one run on stderr; return whether all metrics succeeded."""
    notes: dict[str, list[str]] = {}
    for result in record.results:
        if note := result.details.get("note"):
            notes.setdefault(note, []).append(result.metric)
    for note, metrics_with_it in notes.items():
        console.note(f"{label}: {', '.join(metrics_with_it)}: {note}")
    named: dict[str, list[str]] = {}  # each reason once
    for name, failure in failures.items():
        named.setdefault(str(failure), []).append(name)
    for names in named.values():
        error = failures[names[0]]
        if not record.results and len(failures) == 1:
            raise error
        console.note(f"{label}: {', '.join(names)} failed: {error}")
        if error.hint:
            console.note(error.hint)
    if failures and not record.results:
        raise typer.Exit(exit_code(next(iter(failures.values()))))
    return not failures


def _print(measured: "list[RunResults]", recipes: "list[Recipe]") -> None:
    from dpvae_cli.cli.result_tables import (
        check_comparable,
        comparison_table,
        distinct_parts,
        footnotes,
        run_table,
    )

    cautions: list[str] = []
    if len(measured) == 1:
        console.table(measured[0].run, *run_table(measured[0]))
    else:
        cautions, incomparable = check_comparable(measured, recipes)
        shared = distinct_parts([run.run for run in measured])[0]
        console.table(shared or None, *comparison_table(measured, incomparable=incomparable))
    for line in cautions + footnotes(measured):
        console.result(line)

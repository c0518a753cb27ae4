"""`dpvae fit-prior`: fit a prior post hoc to any trained VAE."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dpvae_cli.cli import console
from dpvae_cli.cli.completion import complete_prior
from dpvae_cli.cli.errors import handle_errors
from dpvae_cli.cli.options import Best, DataRoot, Device, NoDownload, Quiet, examples
from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.foundation.text import format_with_error, path_exists

if TYPE_CHECKING:
    from dpvae_cli.fitting.prior_file import FitRecord

EXAMPLES = examples(
    "dpvae fit-prior",
    "dpvae fit-prior runs/beta_h_moons-standard_normal-seed0 --prior spline",
    "dpvae fit-prior ckpt.pt --prior '{kind: mixture, covariance: full}'",
    "dpvae fit-prior ckpt.pt --prior '{kind: spline, blocks: 8}' fitting.iterations=6000",
    "dpvae fit-prior --prior spline --given label",
    "dpvae fit-prior --codes codes.npz --prior spline --out prior.pt",
)


@handle_errors
def fit_prior(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CKPT|KEY=VALUE",
            help="Checkpoint or run folder (default: runs/latest), and fitting.KEY=VALUE.",
        ),
    ] = None,
    prior: Annotated[
        str,
        typer.Option(
            help="A kind of prior, such as mixture, or a section such as "
            "'{kind: spline, blocks: 8}'.",
            autocompletion=complete_prior,
        ),
    ] = "decoupled",
    given: Annotated[
        Literal["label"] | None,
        typer.Option(
            help="label: fit p(z | label), for data, or an array `label` beside the codes, with "
            "one whole number for each example."
        ),
    ] = None,
    codes: Annotated[
        Path | None,
        typer.Option(
            help="Fit to these codes instead of those of a checkpoint: an .npz with mean and, "
            "unless codes are points, log_variance, as dpvae encode writes it."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the new run (default: the old name and -fit_<prior>); with "
            "--codes the prior file (default: prior.pt beside the codes)."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Overwrite --out.")] = False,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="With --codes: seed of the fit (default: 0)."),
    ] = None,
    best: Best = False,
    device: Device = "auto",
    data_root: DataRoot = None,
    no_download: NoDownload = False,
    quiet: Quiet = False,  # noqa: ARG001 (handle_errors reads it)
) -> None:
    """Fit a better prior to the codes of a trained VAE.

    Encoder and decoder are frozen; the prior maximises E[log p(z)] over z ~ q(z) and stops when
    held-out codes no longer gain. Prints the gain in nats and the path of the new run or prior
    file: every command takes the run, dpvae sample also the file. If the prior is clearly worse
    than the one it is compared with, runs/latest stays and the exit code is 1.
    """
    words = words or []
    overrides = [word for word in words if "=" in word and not path_exists(word)]
    paths = [Path(word) for word in words if word not in overrides]
    if given is not None:
        overrides.append(f"fitting.given={given}")
    if len(paths) > 1 or (paths and codes is not None):
        raise UsageError(
            "one model at a time: "
            + ("--codes replaces a checkpoint" if codes else f"{len(paths)} are named")
        )
    if codes is None and seed is not None:
        raise UsageError("--seed is for --codes; a run has the seed of its recipe")
    if codes is not None:
        path, record = _fit_codes(
            codes, prior, overrides, out=out, overwrite=overwrite, seed=seed or 0, device=device
        )
    else:
        from dpvae_cli.runs.fit_prior import fit_run

        folder, record = fit_run(
            next(iter(paths), None),
            prior,
            overrides,
            run_dir=out,
            best=best,
            overwrite=overwrite,
            device=device,
            data_root=data_root,
            download=not no_download,
            mark_latest=True,
            warn=console.note,
        )
        path = folder.path
    _print(record)
    if (path / "fit.png").is_file():
        console.result(str(path / "fit.png"))
    console.result(str(path))
    if paths:
        before = paths[0] / "best.pt" if best and paths[0].is_dir() else paths[0]
        both = shlex.join(["dpvae", "plot", "samples", str(before), str(path)])
        console.note(f"Samples before and after the fit: {both}")
    if record.is_clear_loss:
        raise DpvaeError(
            describe_loss(record),
            hint=f"{path} is kept"
            + (", and runs/latest is what it was. " if codes is None else ". ")
            + "Try another --prior, or more fitting.iterations.",
        )


def _fit_codes(
    codes: Path,
    prior: str,
    overrides: list[str],
    *,
    out: Path | None,
    overwrite: bool,
    seed: int,
    device: str,
) -> "tuple[Path, FitRecord]":
    """Fit a prior to codes from a file and write a prior file."""
    import torch

    from dpvae_cli.fitting import prior_file
    from dpvae_cli.fitting.codes import (
        CODES,
        LABELS,
        read_codes,
        read_labelled_codes,
        unused_arrays,
        validate_codes,
    )
    from dpvae_cli.fitting.fit import fit_prior
    from dpvae_cli.foundation import devices
    from dpvae_cli.recipe.loading import fit_options

    mean, log_variance = validate_codes(*read_codes(codes))
    spec, fitting = fit_options(prior, overrides, latent_dim=mean.shape[1])
    labels = None
    if fitting.given is not None and (labels := read_labelled_codes(codes).labels) is None:
        raise UsageError(
            f"{codes} has no array `label` to give the prior",
            hint="Save one whole number for each code as label, or leave out --given label.",
        )
    if unused := unused_arrays(codes, CODES if labels is None else (*CODES, *LABELS)):
        console.note(f"Not used of {codes}: {', '.join(unused)}.")
    path = codes.with_name("prior.pt") if out is None else out
    if path.is_dir():
        path = path / "prior.pt"
    if path.exists():
        if not overwrite:
            hint = "Add --overwrite, or name another --out."
            raise UsageError(f"{path} is already there", hint=hint)
        prior_file.check_is_prior_file(path)
    place = devices.resolve(device)
    spread: torch.Tensor | None = None if log_variance is None else log_variance.to(place)
    fitted = fit_prior(mean.to(place), spread, spec, fitting=fitting, seed=seed, labels=labels)
    fitted.save(path)
    return path, fitted.record


def describe_loss(record: "FitRecord") -> str:
    """Say by how much a fitted prior is worse than the one it is compared with."""
    return (
        f"the fitted {record.prior} prior is worse than {record.baseline} on held-out codes: "
        f"gain {format_with_error(*record.gain, sign=True)} nats"
    )


def _print(record: "FitRecord") -> None:

    assert record.reported is not None
    assert record.gaussian_nll is not None
    assert record.gaussian_gain is not None
    validation = record.held_out - record.reported
    codes = f"{record.components:,}, of them {validation:,} validation, {record.reported:,} test"
    iterations = f"{record.iterations:,}, the best after {record.best_iteration:,}"
    if record.spec is not None and record.spec["kind"] == "mixture":
        iterations = f"{record.iterations:,} of EM, {record.spec['components']} components"
        if len(record.curve) > 1:
            tried = ", ".join(str(components) for components, _ in record.curve)
            iterations += f", selected from {tried}"
    rows = [
        ["prior", record.prior + (f", given the {record.given}" if record.given else "")],
        ["codes", codes],
        ["iterations", iterations],
        [f"-E[log p(z)], {record.baseline} [nats]", format_with_error(*record.baseline_nll)],
        [
            "-E[log p(z)], Gaussian of the codes' moments [nats]",
            format_with_error(*record.gaussian_nll),
        ],
        [f"-E[log p(z)], {record.prior} [nats]", format_with_error(*record.nll)],
        [f"gain over {record.baseline} [nats]", format_with_error(*record.gain, sign=True)],
        ["gain over the Gaussian [nats]", format_with_error(*record.gaussian_gain, sign=True)],
        ["seconds", f"{record.seconds:.1f}"],
    ]
    console.table("On held-out codes", ["what", "value"], rows)
    if record.is_improving:
        console.note(
            f"The last of {record.iterations:,} iterations is the best so far: more "
            f"fitting.iterations may gain more."
        )

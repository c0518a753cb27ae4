"""`dpvae sample`: samples of the prior, or of where prior and aggregate posterior disagree."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dpvae_cli.cli import console
from dpvae_cli.cli.errors import handle_errors
from dpvae_cli.cli.options import (
    MAX_COUNT,
    CheckpointPath,
    Out,
    RankBy,
    Seed,
    examples,
)
from dpvae_cli.cli.run_io import (
    RunOptions,
    column_names,
    note_units,
    output_path,
    picture_and_arrays,
    with_run_options,
)
from dpvae_cli.foundation.errors import UsageError, WrongFileTypeError
from dpvae_cli.foundation.example_shape import is_image

if TYPE_CHECKING:
    import torch

    from dpvae_cli.runs.loaded_run import LoadedRun
    from dpvae_cli.sampling.samples import LatentSamples

EXAMPLES = examples(
    "dpvae sample",
    "dpvae sample --low-posterior runs/factor_mnist-decoupled-seed0",
    "dpvae sample --high-posterior --rank generation -n 100 --out leaks.png",
    "dpvae sample ckpt.pt --posterior --seed 3",
    "dpvae sample --from posterior",
    "dpvae sample --label 3",
    "dpvae sample -n 10000 --format png --out samples",
    "dpvae sample -n 1000 --noise --format csv --out rows.csv",
    "dpvae sample prior.pt -n 1000 --out z.npz",
)


@handle_errors
@with_run_options
def sample(
    options: RunOptions,
    checkpoint: CheckpointPath = None,
    n: Annotated[int, typer.Option("-n", min=1, max=MAX_COUNT, help="Number of samples.")] = 64,
    source: Annotated[
        Literal["prior", "posterior"],
        typer.Option(
            "--from", help="prior: z ~ p(z); posterior: z ~ q(z|x) of random training examples."
        ),
    ] = "prior",
    low_posterior: Annotated[
        bool,
        typer.Option("--low-posterior", help="Keep prior samples with the lowest q(z) (pockets)."),
    ] = False,
    high_posterior: Annotated[
        bool,
        typer.Option("--high-posterior", help="Keep samples of q(z) with the lowest p(z) (leaks)."),
    ] = False,
    label: Annotated[
        int | None,
        typer.Option(help="Draw from p(z | label), of a prior that was fitted given labels."),
    ] = None,
    posterior: Annotated[
        bool, typer.Option("--posterior", help="Add the exact log q(z) to plain samples.")
    ] = False,
    noise: Annotated[
        bool, typer.Option("--noise", help="Draw x ~ p(x|z); without it samples are E[x|z].")
    ] = False,
    pool: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MAX_COUNT,
            help="Draw this many to keep -n of (default: recipe's pool times -n).",
        ),
    ] = None,
    rank: Annotated[
        RankBy | None,
        typer.Option(
            help="Rank high-posterior samples by log p(z) (default) or, generation, by log N(g(z))."
        ),
    ] = None,
    form: Annotated[
        Literal["png", "csv"] | None,
        typer.Option(
            "--format",
            help="png: one PNG per sample in the folder --out; csv: a table with a row per sample.",
        ),
    ] = None,
    out: Out = None,
    seed: Seed = 0,
) -> None:
    """Draw samples from the prior and decode them.

    z0 ~ N(0, I), z = g^-1(z0), x = E[x|z]; priors without a z0 draw z itself. With --from posterior
    z ~ q(z), the codes of random training examples. Writes a picture and an .npz with z, z0, log
    p(z), the decoded means, x under --noise, and log q(z) where it is asked for or needed; what is
    decoded is in the data's units. With --format png it writes single images, with --format csv a
    table. Given a prior file (dpvae fit-prior --codes) it writes z and log p(z), for a decoder of
    your own.
    """
    from dpvae_cli.data.tables import write_csv
    from dpvae_cli.foundation.randomness import stream
    from dpvae_cli.sampling.samples import decode_to_data_units

    is_ranked = low_posterior or high_posterior
    kind: str = "low_posterior" if low_posterior else "high_posterior" if high_posterior else source
    if form is None and out is not None and out.suffix == ".csv":
        form = "csv"
    both = "--low-posterior and --high-posterior"
    for is_wrong, problem in (
        (low_posterior and high_posterior, f"{both} exclude each other"),
        (
            is_ranked and source == "posterior",
            f"{both} rank samples of the prior, not of --from posterior",
        ),
        (label is not None and kind != "prior", "--label is for samples of the prior"),
        (rank is not None and not high_posterior, "--rank is for --high-posterior"),
        (pool is not None and not is_ranked, f"--pool is for {both}"),
        (
            form is not None and posterior,
            f"--posterior adds to the .npz, which --format {form} does not write",
        ),
    ):
        if is_wrong:
            raise UsageError(problem)
    try:
        run = options.load(checkpoint)
    except WrongFileTypeError:
        assert checkpoint is not None
        if is_ranked or posterior or noise or form is not None or source != "prior":
            raise
        _sample_codes(checkpoint, n, out=out, seed=seed, label=label)
        return
    if label is not None:
        run = replace(run, model=run.model.with_prior(run.model.prior.given(label)))
        kind = f"label_{label}"
    note_units(run)
    pool = run.recipe.evaluation.pool * n if pool is None else pool
    folder = run.folder.path / "samples"
    table = folder / f"{kind}.csv"
    if form == "png":
        _check_image_folder(run, out or folder / kind, n)
    elif form == "csv":
        table = output_path(out, table, suffixes=(".csv",), what="tables")
        if len(shape := run.model.example_shape) != 1:
            sizes = " x ".join(map(str, shape))
            raise UsageError(
                f"--format csv: samples of shape {sizes} are not rows of a table",
                hint="Leave --format out: the .npz has the samples as numbers.",
            )
    latents = _draw(run, kind, n, pool=pool, rank=rank, seed=seed)
    generator = stream(seed, "sample", kind, "noise") if noise else None
    if form == "png":
        _write_single_images(run, latents, out or folder / kind, generator)
        return
    if form == "csv":
        rows = decode_to_data_units(run.model, latents.z, noise=generator)
        numbered = [f"x{place}" for place in range(1, rows.shape[1] + 1)]
        write_csv(table, rows, run.model.units.columns or numbered)
        console.result(str(table))
        return
    if posterior and latents.log_q is None:
        latents = latents.with_log_q(run.encoded.aggregate_posterior())
    picture, arrays = picture_and_arrays(out, folder / f"{kind}.png")
    _write(run, latents, picture, arrays, kind, generator)


def _sample_codes(
    prior_file: Path, n: int, *, out: Path | None, seed: int, label: int | None
) -> None:
    """Draw codes from a prior that was fitted to codes, whose decoder is not known here."""
    from dpvae_cli.fitting.fit import load_prior
    from dpvae_cli.foundation.array_files import write_npz

    path = prior_file.with_suffix(".samples.npz") if out is None else out
    if path.is_dir() or not path.suffix:
        path = path / "prior.npz"
    path = output_path(
        path, path, suffixes=(".npz",), what="samples of a prior file, which has no decoder,"
    )
    fitted = load_prior(prior_file)
    if label is not None:
        fitted = fitted.given(label)
    z = fitted.sample(n, seed=seed)
    write_npz(path, {"z": z.numpy(), "log_p": fitted.log_prob(z).numpy()})
    console.result(str(path))


def _draw(
    run: "LoadedRun", kind: str, n: int, *, pool: int, rank: RankBy | None, seed: int
) -> "LatentSamples":
    from dpvae_cli.foundation.randomness import stream
    from dpvae_cli.sampling import samples

    generator = stream(seed, "sample", kind)
    if kind == "prior" or kind.startswith("label"):
        return samples.prior_samples(run.model, n, generator=generator)
    args = (run.model, run.encoded.aggregate_posterior(), n)
    if kind == "posterior":
        return samples.posterior_samples(*args, generator=generator)
    if kind == "low_posterior":
        return samples.low_posterior(*args, pool=pool, generator=generator)
    return samples.high_posterior(
        *args, pool=pool, generator=generator, rank=rank or "representation"
    )


def _write(
    run: "LoadedRun",
    latents: "LatentSamples",
    picture: Path,
    arrays: Path,
    kind: str,
    noise: "torch.Generator | None",
) -> None:
    """Write the .npz and the picture and print their paths."""
    from dpvae_cli.foundation.array_files import write_npz
    from dpvae_cli.plotting.samples import save_picture
    from dpvae_cli.runs.sample_picture import background_data, samples_title
    from dpvae_cli.sampling.samples import decode_to_data_units, drawable

    examples = {"decoded": decode_to_data_units(run.model, latents.z)}
    if noise is not None:
        examples["x"] = decode_to_data_units(run.model, latents.z, noise=noise)
    names = ("z", "z0", "log_p", "log_p_generation", "log_q")
    tensors = {name: getattr(latents, name) for name in names}
    codes = {name: tensor.numpy() for name, tensor in tensors.items() if tensor is not None}
    write_npz(arrays, codes | examples | column_names(run))
    save_picture(
        picture,
        drawable(run.model, examples.get("x", examples["decoded"])),
        log_density=latents.base_log_prob.numpy(),
        title=samples_title(run.label, len(latents), kind),
        reference=background_data(run.model, run.load_dataset),
        columns=run.model.units.columns,
    )
    console.result(f"{picture}\n{arrays}")


def _check_image_folder(run: "LoadedRun", folder: Path, n: int) -> None:
    """Check that samples are images, and that the folder holds no other PNG files."""
    from dpvae_cli.plotting.samples import file_name

    shape = run.model.example_shape
    if not is_image(shape):
        raise UsageError(
            f"--format png: samples of shape {' x '.join(map(str, shape))} are not images",
            hint="Leave --format out: the .npz has the samples as numbers.",
        )
    if (folder.suffix and not folder.is_dir()) or folder.is_file():
        raise UsageError(
            f"--format png writes many files, --out {folder} names one",
            hint="Name a folder, without a suffix.",
        )
    ours = {file_name(index) for index in range(n)}
    if others := sorted(path.name for path in folder.glob("*.png") if path.name not in ours):
        raise UsageError(
            f"{folder} holds {len(others)} other PNG files, {others[0]} for one; "
            "a tool that reads the folder would mistake them for samples",
            hint="Delete them, or name another folder with --out.",
        )


def _write_single_images(
    run: "LoadedRun", latents: "LatentSamples", folder: Path, noise: "torch.Generator | None"
) -> None:
    """Write one PNG per sample, decoding some at a time, and print the folder."""
    from dpvae_cli.plotting.samples import save_each
    from dpvae_cli.sampling.samples import MOST, decode_to_data_units, drawable

    for start in range(0, len(latents), MOST):
        part = decode_to_data_units(run.model, latents.z[start : start + MOST], noise=noise)
        save_each(drawable(run.model, part), folder, start=start)
    console.result(str(folder))

"""What commands on one run share: the options that load it, and the files that --out names."""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, final

from dpvae_cli.cli import console
from dpvae_cli.cli.options import Best, DataRoot, Device, NoDownload
from dpvae_cli.foundation.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from dpvae_cli.fitting.codes import LabelledCodes
    from dpvae_cli.priors import Prior
    from dpvae_cli.runs.loaded_run import LoadedRun


@final
@dataclass(frozen=True)
class RunOptions:
    """The options that say which checkpoint of a run is loaded, and how."""

    best: Best = False
    device: Device = "auto"
    data_root: DataRoot = None
    no_download: NoDownload = False

    def load(self, path: Path | None, *, quiet: bool = False) -> "LoadedRun":
        """Load a checkpoint; without a path the latest run's, named on stderr."""
        from dpvae_cli.runs.loaded_run import load_run

        run = load_run(
            path,
            best=self.best,
            device=self.device,
            data_root=self.data_root,
            download=not self.no_download,
            warn=console.note,
        )
        if path is None and not quiet:
            console.note(f"Using {run.path} (runs/latest).")
        return run


def with_run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's parameter `options` by the fields of `RunOptions`, for Typer to see."""
    keys = fields(RunOptions)
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "options"]
    shared = [
        inspect.Parameter(key.name, own[-1].kind, default=key.default, annotation=key.type)
        for key in keys
    ]

    @functools.wraps(command)
    def run(**kwargs: Any) -> None:
        command(options=RunOptions(**{key.name: kwargs.pop(key.name) for key in keys}), **kwargs)

    signature = inspect.Signature([*own, *shared])
    run.__annotations__ = {name: p.annotation for name, p in signature.parameters.items()}
    run.__signature__ = signature  # type: ignore[attr-defined]
    return run


def note_units(run: "LoadedRun") -> None:
    """Say on stderr where decoded examples are not in the units of the data."""
    if run.units_note is not None:
        console.note(run.units_note)


def column_names(run: "LoadedRun") -> "dict[str, np.ndarray]":
    """Return the names of the entries of an example as an .npz holds them, if there are any."""
    import numpy as np

    columns = run.model.units.columns
    return {"columns": np.array(columns)} if columns else {}


def output_path(out: Path | None, default: Path, *, suffixes: tuple[str, ...], what: str) -> Path:
    """Return the file to write: `out`, in the folder `out` under the default's name, or `default`.

    Raises:
        UsageError: `out` is a file with another suffix.
    """
    if out is None:
        return default
    if not out.suffix or out.is_dir():
        return out / default.name
    if out.suffix not in suffixes:
        raise UsageError(
            f"--out {out}: {what} are written as {' or '.join(suffixes)}, not {out.suffix}",
            hint="Leave the suffix out to name a folder.",
        )
    return out


def picture_and_arrays(out: Path | None, default: Path) -> tuple[Path, Path]:
    """Return the picture to write, as `output_path` does, and the .npz beside it.

    Raises:
        UsageError: the suffix is neither .png nor .pdf, or the .npz belongs to something else.
    """
    picture = output_path(out, default, suffixes=(".png", ".pdf"), what="pictures")
    beside = picture.with_suffix(".npz")
    if picture == out and beside.exists() and not out.exists():
        raise UsageError(
            f"--out {out}: {beside} would be written beside it, and exists already",
            hint="Name another file, or move that one away.",
        )
    return picture, beside


@final
class LoadedCodes(NamedTuple):
    """The codes of a file and its digest, and the prior of another; None stands for N(0, I)."""

    codes: "LabelledCodes"
    digest: str
    prior: "Prior | None"


def check_codes(codes: Path | None, prior: Path | None, runs: Sequence[Path]) -> None:
    """Check that codes and runs are not named together.

    Raises:
        UsageError: they are, or there is a prior and no codes.
    """
    if codes is not None and runs:
        raise UsageError("one or the other: --codes replaces a checkpoint")
    if codes is None and prior is not None:
        raise UsageError(
            "--prior is for --codes; a run has a prior of its own",
            hint="dpvae fit-prior CKPT --prior WORD makes a run with another.",
        )


def load_codes(codes: Path, prior: Path | None) -> LoadedCodes:
    """Read codes and a prior file; arrays that are not used are named on stderr."""
    from dpvae_cli.fitting.codes import CODES, LABELS, read_labelled_codes, unused_arrays
    from dpvae_cli.fitting.fit import load_prior
    from dpvae_cli.runs.checkpoint import file_digest

    found = read_labelled_codes(codes)
    if unused := unused_arrays(codes, (*CODES, *LABELS, "factors")):
        console.note(f"Not used of {codes}: {', '.join(unused)}.")
    return LoadedCodes(
        found,
        file_digest(codes),
        None if prior is None else load_prior(prior).prior,
    )

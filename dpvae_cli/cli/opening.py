"""Open the checkpoint a command was given, or the latest one, and say so."""

from pathlib import Path
from typing import TYPE_CHECKING

from dpvae_cli.cli import console

if TYPE_CHECKING:
    import numpy as np

    from dpvae_cli.runs.loaded_run import LoadedRun


def opened(
    path: Path | None,
    *,
    best: bool,
    device: str,
    data_root: Path | None,
    no_download: bool,
    quiet: bool = False,
) -> "LoadedRun":
    """Return the opened checkpoint; without a path the latest run's, named on stderr."""
    from dpvae_cli.runs.loaded_run import load_run

    found = load_run(
        path,
        best=best,
        device=device,
        data_root=data_root,
        download=not no_download,
        warn=console.note,
    )
    if path is None and not quiet:
        console.note(f"Using {found.path} (runs/latest).")
    return found


def note_units(found: "LoadedRun") -> None:
    """Say on stderr where decoded examples are not in the units of the data."""
    if found.units_note is not None:
        console.note(found.units_note)


def column_names(found: "LoadedRun") -> "dict[str, np.ndarray]":
    """Return the names of the entries of an example as an .npz holds them, where there are any."""
    import numpy as np

    columns = found.model.units.columns
    return {"columns": np.array(columns)} if columns else {}


def outputs(out: Path | None, *, default: Path, stem: str) -> tuple[Path, Path]:
    """Return the picture's path and the .npz beside it.

    `--out x.png` names the picture and x.npz; `--out folder` puts `<stem>.png` and `<stem>.npz`
    there; None does so in `default`.

    Raises:
        UsageError: the suffix is neither .png nor .pdf, or an .npz is there that is not of an
            earlier picture of this name.
    """
    from dpvae_cli.foundation.errors import UsageError

    if out is None or not out.suffix or out.is_dir():
        folder = default if out is None else out
        return folder / f"{stem}.png", folder / f"{stem}.npz"
    if out.suffix not in (".png", ".pdf"):
        raise UsageError(
            f"--out {out}: a picture ends in .png or .pdf, not {out.suffix}",
            hint="Leave the suffix out to name a folder.",
        )
    return out, arrays_beside(out)


def arrays_beside(out: Path) -> Path:
    """Return the .npz that is written beside a file that --out names.

    Raises:
        UsageError: it is there and the file is not, so that it is somebody else's.
    """
    from dpvae_cli.foundation.errors import UsageError

    beside = out.with_suffix(".npz")
    if beside.exists() and not out.exists():
        raise UsageError(
            f"--out {out}: {beside} would be written beside it, and is there already",
            hint="Name another file, or move that one away.",
        )
    return beside

"""What commands on codes without a model share: --codes FILE and --prior FILE."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, final

from dpvae_cli.cli import console

if TYPE_CHECKING:
    from dpvae_cli.fitting.codes import LabelledCodes
    from dpvae_cli.priors import Prior


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
    from dpvae_cli.foundation.errors import UsageError

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

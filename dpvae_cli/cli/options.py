"""Options that several commands share, and the examples at the end of every help text."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:N or mps; one that is not there is an error.")
]
DataRoot = Annotated[
    Path | None,
    typer.Option(help="Folder to look for data in (default: $DPVAE_DATA, else the user cache)."),
]
NoDownload = Annotated[bool, typer.Option("--no-download", help="Never download data.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
Best = Annotated[
    bool,
    typer.Option("--best", help="Of a run folder take best.pt (validation ELBO), not the last."),
]
MOST = 10_000_000
"""Of anything that is counted on the command line."""
Seed = Annotated[int, typer.Option(min=0, help="Seed of the draws.")]
FidDimensions = Annotated[
    int | None,
    typer.Option(
        help="Inception features for fid and kid: 2048, 768, 192 or 64 (default: 2048).",
        show_default=False,
    ),
]
InceptionWeights = Annotated[
    Path | None,
    typer.Option(
        help="File of the FID Inception weights (default: $DPVAE_INCEPTION_WEIGHTS, torch's "
        "hub cache, else a download).",
        show_default=False,
    ),
]
CheckpointPath = Annotated[
    Path | None,
    typer.Argument(
        metavar="CKPT",
        help="Checkpoint or run folder (default: runs/latest).",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="With a suffix (.png, .pdf) the picture, an .npz beside it; without one a folder.",
        show_default=False,
    ),
]


class SplitName(StrEnum):
    """A part of the data."""

    train = "train"
    validation = "validation"
    test = "test"


SplitChoice = Annotated[SplitName, typer.Option(help="Which part of the data.")]


class Space(StrEnum):
    """Where a walk is straight."""

    z0 = "z0"
    z = "z"
    both = "both"


class Format(StrEnum):
    """How samples are written other than as one picture and its arrays."""

    png = "png"
    csv = "csv"


class RankBy(StrEnum):
    """What high-posterior samples are ranked by."""

    representation = "representation"
    generation = "generation"


def examples(*lines: str) -> str:
    """Return the end of a help text: commands to try, kept one a line by Click's marker."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)

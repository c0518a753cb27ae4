"""Options that several commands share, and the examples at the end of every help text."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:N or mps; a missing device is an error.")
]
DataRoot = Annotated[
    Path | None,
    typer.Option(help="Data folder (default: $DPVAE_DATA, else the user cache)."),
]
NoDownload = Annotated[bool, typer.Option("--no-download", help="Never download data.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
Best = Annotated[
    bool,
    typer.Option("--best", help="Use best.pt (best validation ELBO) instead of checkpoint.pt."),
]
MAX_COUNT = 10_000_000
"""The largest count that an option takes."""
Seed = Annotated[int, typer.Option(min=0, help="Random seed.")]
FidDimensions = Annotated[
    int | None,
    typer.Option(help="Inception features of fid and kid: 2048, 768, 192 or 64 (default: 2048)."),
]
InceptionWeights = Annotated[
    Path | None,
    typer.Option(
        help="FID Inception weights (default: $DPVAE_INCEPTION_WEIGHTS, torch's hub cache, "
        "else a download)."
    ),
]
CheckpointPath = Annotated[
    Path | None,
    typer.Argument(
        metavar="CKPT", help="Checkpoint, run folder or packaged model (default: runs/latest)."
    ),
]
Out = Annotated[
    Path | None, typer.Option(help="The picture (.png, .pdf), with an .npz beside it, or a folder.")
]


CodesFile = Annotated[
    Path | None,
    typer.Option(
        "--codes",
        help="Codes of any VAE in place of a checkpoint: an .npz with mean and, unless codes are "
        "points, log_variance, and labels and factors where they are known.",
    ),
]
PriorFile = Annotated[
    Path | None,
    typer.Option(
        "--prior",
        help="With --codes: the prior file of dpvae fit-prior --codes (default: N(0, I)).",
    ),
]


SplitOption = Annotated[
    Literal["train", "validation", "test"], typer.Option(help="Split of the data.")
]
RankBy = Literal["representation", "generation"]
"""The space whose density ranks high-posterior samples."""


def examples(*lines: str) -> str:
    """Return the end of a help text: example commands, one per line."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)

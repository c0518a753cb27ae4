"""`dpvae report`: what runs show together, as one page and its tables."""

from pathlib import Path
from typing import Annotated

import typer

from dpvae_cli.cli import console
from dpvae_cli.cli.errors import handle_errors
from dpvae_cli.cli.options import examples
from dpvae_cli.foundation.errors import UsageError

SUFFIXES = (".html", ".md", ".tex", ".csv", ".json")
EXAMPLES = examples(
    "dpvae report runs/*_moons-*",
    "dpvae report studies/table1_moons",
    "dpvae report studies/table1_mnist runs/mine-* --out report --title 'Ours and theirs'",
)


@handle_errors
def report(
    places: Annotated[
        list[Path],
        typer.Argument(
            metavar="STUDY_OR_RUNS...", help="Study folders, run folders, or folders of runs."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the report (default: the study's own, else report)."),
    ] = None,
    title: Annotated[
        str | None,
        typer.Option(help="Title (default: the study's, else made from it)."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Compare with this prior, by its name in the tables (default: the study's, else "
            "standard_normal)."
        ),
    ] = None,
) -> None:
    """Compare runs on one HTML page.

    The tables are also written as Markdown, LaTeX, CSV and JSON.

    Runs that are not finished or not measured are listed as such. The page holds its pictures and
    fetches nothing.
    """
    from dataclasses import replace

    from dpvae_cli.studies.records import read_inputs
    from dpvae_cli.studies.report import write_report

    if out is not None and (out.suffix in SUFFIXES or out.is_file()):
        raise UsageError(
            f"--out {out}: a report is five files, so --out names a folder",
            hint=f"For instance --out {out.with_suffix('')}.",
        )
    inputs = read_inputs(places)
    inputs = replace(inputs, title=title or inputs.title, baseline=baseline or inputs.baseline)
    written = write_report(out or inputs.study or Path("report"), inputs)
    console.result("\n".join(map(str, written)))

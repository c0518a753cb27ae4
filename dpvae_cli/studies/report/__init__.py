"""The report of a study or of any runs: one HTML page, and its tables in four other formats."""

from collections.abc import Sequence
from pathlib import Path

from dpvae_cli.foundation.files import write_text
from dpvae_cli.foundation.sanitize import escape_unprintable
from dpvae_cli.studies.arrangement import BASELINE
from dpvae_cli.studies.records import read_run, refuse_nothing_measured
from dpvae_cli.studies.report import html, plain
from dpvae_cli.studies.report.content import compose

STEM = "report"


def write_report(
    folder: Path,
    runs: Sequence[Path],
    *,
    title: str,
    question: str | None = None,
    metrics: Sequence[str] | None = None,
    published: str | None = None,
    figures: Sequence[Path] = (),
    notes: Sequence[str] = (),
    baseline: str = BASELINE,
) -> list[Path]:
    """Write report.html, .md, .tex, .csv and .json of these runs into a folder.

    Args:
        folder: where they go; files of these names are replaced.
        runs: run folders, finished or not; those without numbers are listed as such.
        title: of the report.
        question: what the runs are to answer.
        metrics: which to show; whatever the runs have by default.
        published: name of a published table whose numbers stand beside ours, such as `table1`.
        figures: pictures of several runs, each with its caption in a .txt of the same stem if any.
        notes: what was shortened or subsampled, beside what the run folders tell.
        baseline: name of the prior that others are compared with.

    Returns:
        the files written, the page first.

    Raises:
        UsageError: no run is measured, or the folder cannot be written to.
    """
    records = [read_run(path) for path in runs]
    refuse_nothing_measured(records)
    content = compose(
        records,
        title=title,
        question=question,
        metrics=metrics,
        published=published,
        figures=figures,
        notes=notes,
        baseline=baseline,
    )
    texts = {
        ".html": html.page(content),
        ".md": plain.markdown(content),
        ".tex": plain.latex(content),
        ".csv": plain.comma_separated(content),
        ".json": plain.json_text(content),
    }
    written = [folder / f"{STEM}{suffix}" for suffix in texts]
    for path, text in zip(written, texts.values(), strict=True):
        write_text(path, escape_unprintable(text))
    return written

"""The report of a study or of any runs: one HTML page, and its tables in four other formats."""

from pathlib import Path

from dpvae_cli.foundation.files import write_text
from dpvae_cli.foundation.text import escape_unprintable
from dpvae_cli.studies.records import ReportInputs, check_any_measured, read_run
from dpvae_cli.studies.report import exports, html
from dpvae_cli.studies.report.content import compose_report

STEM = "report"


def write_report(folder: Path, inputs: ReportInputs) -> list[Path]:
    """Write report.html, .md, .tex, .csv and .json into a folder and return them, the page first.

    Files of these names are replaced.

    Raises:
        UsageError: no run is measured, or the folder cannot be written to.
    """
    records = [read_run(path) for path in inputs.runs]
    check_any_measured(records)
    content = compose_report(records, inputs)
    texts = {
        ".html": html.render_report(content),
        ".md": exports.to_markdown(content),
        ".tex": exports.to_latex(content),
        ".csv": exports.to_csv(content),
        ".json": exports.to_json(content),
    }
    written = [folder / f"{STEM}{suffix}" for suffix in texts]
    for path, text in zip(written, texts.values(), strict=True):
        write_text(path, escape_unprintable(text))
    return written

"""A diagnosis as a page and as JSON."""

from pathlib import Path
from typing import Any

from dpvae_cli.diagnosis import Diagnosis
from dpvae_cli.diagnosis.page import About, page
from dpvae_cli.diagnosis.verdict import describe_dimensions, recommendation, summarize
from dpvae_cli.foundation.files import write_json, write_text
from dpvae_cli.foundation.sanitize import escape_unprintable

STEM = "diagnosis"


def document(found: Diagnosis, about: About) -> dict[str, Any]:
    """Return what diagnosis.json holds."""
    advice, command = recommendation(found, about.command)
    return {
        "run": about.run,
        "checkpoint": about.checkpoint,
        "checkpoint_digest": about.digest,
        "iteration": about.iteration,
        "recipe": about.recipe,
        "data_note": about.data_note,
        "headline": summarize(found),
        "about_dimensions": describe_dimensions(found),
        "remedy": advice,
        "command": command,
        "comparison": about.comparison_after(command),
        **found.to_json(),
    }


def write_diagnosis(found: Diagnosis, about: About, path: Path) -> list[Path]:
    """Write the page, and the JSON beside it.

    Args:
        found: the diagnosis.
        about: the run it is of.
        path: of the page; the JSON has its stem.

    Raises:
        UsageError: the folder cannot be written to.
    """
    beside = path.with_suffix(".json")
    write_text(path, escape_unprintable(page(found, about)))
    write_json(beside, document(found, about))
    return [path, beside]

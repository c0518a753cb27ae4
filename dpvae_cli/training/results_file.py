"""metrics.json: the results of a run's checkpoint, others kept, the same ones replaced."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpvae_cli.foundation.files import write_json
from dpvae_cli.foundation.results import Result, RunResults
from dpvae_cli.training.opened import Opened


def run_results(run: Opened, results: Sequence[Result]) -> RunResults:
    """Return results with the run they belong to."""
    return RunResults(
        run=run.label,
        checkpoint=str(run.path),
        recipe=run.recipe.name,
        results=tuple(results),
        checkpoint_digest=run.digest,
        iteration=run.iteration,
    )


def keep(run: Opened, record: RunResults) -> Path:
    """Write metrics.json, with what it held before of the same checkpoint and other metrics."""
    path = run.folder.metrics
    fresh = record.to_json()
    measured = {result["metric"] for result in fresh["results"]}
    older = read(run).get("results", [])
    fresh["results"] = [r for r in older if r["metric"] not in measured] + fresh["results"]
    write_json(path, fresh)
    return path


def read(run: Opened) -> dict[str, Any]:
    """Return what metrics.json says of this very checkpoint, or nothing."""
    try:
        found = json.loads(run.folder.metrics.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    is_ours = isinstance(found, dict) and found.get("checkpoint_digest") == run.digest
    return found if is_ours else {}

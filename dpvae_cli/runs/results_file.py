"""metrics.json: the results of a run's checkpoint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpvae_cli.foundation.files import HIDDEN_PREFIX, write_json
from dpvae_cli.foundation.locks import hold_lock
from dpvae_cli.foundation.results import Result, RunResults, nonfinite_to_none
from dpvae_cli.foundation.text_files import read_json
from dpvae_cli.runs.loaded_run import LoadedRun

LOCK = f"{HIDDEN_PREFIX}metrics.lock"
"""Held while results are merged into metrics.json."""


def run_results(run: LoadedRun, results: Sequence[Result]) -> RunResults:
    """Return results with a description of their run."""
    return RunResults(
        run=run.label,
        checkpoint=str(run.path),
        recipe=run.recipe.name,
        results=tuple(results),
        checkpoint_digest=run.digest,
        iteration=run.iteration,
    )


def merge_results(run: LoadedRun, record: RunResults) -> Path:
    """Merge results into metrics.json; those of other checkpoints are dropped.

    Raises:
        UsageError: the folder cannot be written to.
    """
    path = run.folder.metrics
    fresh = record.to_json()
    measured = {result["metric"] for result in fresh["results"]}
    with hold_lock(path.with_name(LOCK)):
        older = read_results(run).get("results", [])
        fresh["results"] = [r for r in older if r["metric"] not in measured] + fresh["results"]
        write_json(path, nonfinite_to_none(fresh))
    return path


def read_results(run: LoadedRun) -> dict[str, Any]:
    """Return the content of metrics.json if it is of this checkpoint, else an empty mapping."""
    found = read_json(run.folder.metrics)
    if found.get("checkpoint_digest") != run.digest:
        return {}
    results = found.get("results")
    return found if isinstance(results, list) and all(map(_is_result, results)) else {}


def _is_result(found: Any) -> bool:
    return isinstance(found, dict) and isinstance(found.get("metric"), str)

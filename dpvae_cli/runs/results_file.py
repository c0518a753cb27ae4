"""metrics.json: the results of a run's checkpoint.

Beside it metrics_terms.npz has the error terms of their values (`mathematics.estimates`), an array
of float32 for each metric, from which the error of a difference of two runs follows.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dpvae_cli.foundation.array_files import read_arrays, read_cache, write_cache
from dpvae_cli.foundation.files import HIDDEN_PREFIX, hold_lock, write_json
from dpvae_cli.foundation.results import Result, RunResults
from dpvae_cli.foundation.text import is_inside, nonfinite_to_none, read_json
from dpvae_cli.runs.loaded_run import LoadedRun
from dpvae_cli.runs.run_folder import RunFolder

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
        merge_error_terms(run.folder, record)
    return path


def merge_error_terms(folder: RunFolder, record: RunResults) -> None:
    """Write the error terms of results, with those of other metrics of the same checkpoint."""
    digest = record.checkpoint_digest
    terms = read_cache(folder.error_terms, checkpoint=digest) or {}
    for result in record.results:
        terms.pop(result.metric, None)
        if "value" in result.error_terms:
            terms[result.metric] = result.error_terms["value"].cpu().numpy().astype(np.float32)
    if terms or folder.error_terms.is_file():
        write_cache(folder.error_terms, terms, checkpoint=digest)


def read_error_terms(folder: RunFolder, result: Result) -> np.ndarray | None:
    """Return the error terms of a result's value; None unless they give its standard error."""
    path = folder.error_terms
    if result.standard_error is None or not is_inside(path, folder.path):
        return None
    try:
        terms = read_arrays(path, [result.metric])[result.metric]
        norm = float(np.linalg.norm(terms.astype(np.float64)))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_its_own = terms.ndim == 1 and math.isclose(norm, result.standard_error, rel_tol=1e-3)
    return terms if is_its_own else None


def read_results(run: LoadedRun) -> dict[str, Any]:
    """Return the content of metrics.json if it is of this checkpoint, else an empty mapping."""
    found = read_json(run.folder.metrics)
    if found.get("checkpoint_digest") != run.digest:
        return {}
    results = found.get("results")
    is_valid = isinstance(results, list) and all(
        isinstance(each, dict) and isinstance(each.get("metric"), str) for each in results
    )
    return found if is_valid else {}

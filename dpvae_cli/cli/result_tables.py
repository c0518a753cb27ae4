"""Result records as tables: one run with all columns, or several runs side by side."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from dpvae_cli.foundation.results import Result, RunResults
from dpvae_cli.foundation.text import format_with_error

if TYPE_CHECKING:
    from torch import Tensor

    from dpvae_cli.recipe import Recipe

SIZE_FIELDS = {"train", "validation", "test", "images"}
"""Fields of data that say how much of it there is; the others say what it is."""
LIKELIHOOD_METRICS = ("nll", "elbo", "reconstruction")
"""Metrics that are densities or probabilities of x, as the likelihood is the one or the other."""
ResultTable = tuple[list[str], list[list[str]]]


class Row(NamedTuple):
    """One line of a table: a name, a value, its standard error, and what the draws add to it."""

    name: str
    value: float | None
    standard_error: float | None
    result: Result
    error_terms: "Tensor | None" = None


def run_table(run: RunResults) -> ResultTable:
    """Return the table of one run."""
    columns = ["metric", "value ± standard error", "unit", "samples", "seed", "split"]
    rows = [
        [
            row.name,
            format_with_error(row.value, row.standard_error),
            row.result.unit,
            f"{row.result.samples:,}",
            str(row.result.seed),
            row.result.split or "-",
        ]
        for row in _rows(run)
    ]
    return columns, rows


def comparison_table(
    runs: Sequence[RunResults], *, incomparable: Sequence[str] | None = ()
) -> ResultTable:
    """Return runs side by side, value +- standard error, and for two their difference.

    Args:
        runs: with their results; a column is called by what a run's name has for itself.
        incomparable: metrics that have no difference; None means all of them.
    """
    has_difference = len(runs) == 2 and incomparable is not None
    labels, paths = [run.run for run in runs], [run.checkpoint for run in runs]
    are_distinct = len(set(labels)) == len(labels)
    named = distinct_parts(labels) if are_distinct else distinct_parts(paths, "/")
    columns = ["metric", *named[1]]
    if has_difference:
        columns.append("difference")
    by_run = [{row.name: row for row in _rows(run)} for run in runs]
    names = list(dict.fromkeys(name for rows in by_run for name in rows))
    table = []
    for name in names:
        found = [rows.get(name) for rows in by_run]
        units = list(dict.fromkeys(row.result.unit for row in found if row is not None))
        cells = ["-" if row is None else format_with_error(*row[1:3]) for row in found]
        if has_difference:
            is_fair = len(units) == 1 and name not in (incomparable or ())
            cells.append(_difference(*found) if is_fair else "-")
        table.append([f"{name} [{' / '.join(units)}]", *cells])
    return columns, table


def distinct_parts(names: Sequence[str], separator: str = "-") -> tuple[str, list[str]]:
    """Return what names share at both ends, and of each the parts in between.

    Names that are equal, or one alone, are returned whole.

    Example:
        >>> distinct_parts(["vae_moons-decoupled-seed0", "vae_moons-standard_normal-seed0"])
        ('vae_moons, seed0', ['decoupled', 'standard_normal'])
    """
    if len(set(names)) < max(2, len(names)):
        return "", list(names)
    parts = [name.split(separator) for name in names]
    spare, start, end = min(map(len, parts)) - 1, 0, 0
    while start < spare and len({part[start] for part in parts}) == 1:
        start += 1
    while end < spare - start and len({part[-1 - end] for part in parts}) == 1:
        end += 1
    middles = [separator.join(part[start : len(part) - end]) for part in parts]
    shared = [*parts[0][:start], *parts[0][len(parts[0]) - end :]]
    return ", ".join(shared), middles


def check_comparable(
    runs: Sequence[RunResults], recipes: "Sequence[Recipe]"
) -> tuple[list[str], Sequence[str] | None]:
    """Return why numbers of the runs do not compare, a line each, and of which metrics.

    The metrics are all, None, where the data is not the same.
    """
    lines: list[str] = []
    incomparable: Sequence[str] | None = ()
    data = [recipe.data.model_dump(mode="json") for recipe in recipes]
    keys = dict.fromkeys(key for fields in data for key in fields)
    odd = [key for key in keys if any(f.get(key) != data[0].get(key) for f in data)]
    if "kind" in odd:
        odd = ["kind"]
    values = [
        f"data.{key}: {' and '.join(dict.fromkeys(str(f.get(key)) for f in data))}" for key in odd
    ]
    if set(odd) - SIZE_FIELDS:
        lines.append(f"The runs have different data ({', '.join(values)}): they do not compare.")
        return lines, None
    if odd:
        lines.append(f"The runs have different amounts of data ({', '.join(values)}).")
    kinds = list(dict.fromkeys(recipe.likelihood.kind for recipe in recipes))
    if len(kinds) > 1:
        incomparable = LIKELIHOOD_METRICS
        lines.append(
            f"The runs have different likelihoods ({' and '.join(kinds)}): "
            f"{', '.join(LIKELIHOOD_METRICS)} do not compare."
        )
    units: dict[str, set[str]] = {}
    for run in runs:
        for row in _rows(run):
            units.setdefault(row.name, set()).add(row.result.unit)
    if other := [name for name, found in units.items() if len(found) > 1]:
        lines.append(f"In different units, and not to be compared: {', '.join(other)}.")
    return lines, incomparable


def footnotes(runs: Sequence[RunResults]) -> list[str]:
    """Return warnings of few effective samples, and notes of the data, once if equal."""
    lines = [
        f"Warning: {run.run}: {note}."
        for run in runs
        for result in run.results
        if (note := result.details.get("effective_samples_note"))
    ]
    found = ([result.details.get("data_note") for result in run.results] for run in runs)
    notes = ["; ".join(dict.fromkeys(filter(None, of_run))) for of_run in found]
    if len(set(notes)) == 1:
        return lines + ([f"Data: {notes[0]}."] if notes[0] else [])
    named = zip(runs, notes, strict=True)
    return lines + [f"Data of {run.run}: {note}." for run, note in named if note]


def _rows(run: RunResults) -> Iterator[Row]:
    for result in run.results:
        if result.metric == "leak":
            yield from _curve_rows(result)
        else:
            terms = result.error_terms.get("value")
            yield Row(result.metric, result.value, result.standard_error, result, terms)
        if (effective := result.details.get("effective_samples_median")) is not None:
            draws = replace(result, unit="draws, median")
            yield Row(f"{result.metric} effective samples", effective, None, draws)


def _curve_rows(result: Result) -> Iterator[Row]:
    """Yield the leakage score at each quantile and threshold that has a sample below it."""
    details = result.details
    for kind, names in (
        ("quantile_", [f"leak at {100 * q:g} %" for q in details["quantiles"]]),
        ("", [f"leak at tau {tau:g}" for tau in details["thresholds"]]),
    ):
        values, errors = details[f"{kind}values"], details[f"{kind}standard_errors"]
        terms = result.error_terms.get(f"{kind}values")
        for i, (name, value, error) in enumerate(zip(names, values, errors, strict=True)):
            if value is not None:
                yield Row(name, value, error, result, None if terms is None else terms[:, i])


def _difference(first: Row | None, second: Row | None) -> str:
    """Return a difference with its error, paired by draws and examples where both have as many."""
    from dpvae_cli.mathematics.estimates import error_of_difference

    if first is None or second is None or first.value is None or second.value is None:
        return "-"
    error: float | None = None
    if first.error_terms is not None and second.error_terms is not None:
        error = error_of_difference(first.error_terms, second.error_terms)
    elif first.standard_error is not None and second.standard_error is not None:
        error = math.hypot(first.standard_error, second.standard_error)
    return format_with_error(second.value - first.value, error, sign=True)

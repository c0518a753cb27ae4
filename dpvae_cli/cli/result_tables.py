"""Result records as tables: one run with everything said, several side by side."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from dpvae_cli.foundation.numbers import number, with_error
from dpvae_cli.foundation.results import Result, RunResults

if TYPE_CHECKING:
    from torch import Tensor

Table = tuple[list[str], list[list[str]]]


class Row(NamedTuple):
    """One line of a table: a name, a value, its standard error, and what the draws add to it."""

    name: str
    value: float | None
    standard_error: float | None
    result: Result
    error_terms: "Tensor | None"


def single(run: RunResults) -> Table:
    """Return the table of one run."""
    columns = ["metric", "value", "standard error", "unit", "samples", "seed", "split"]
    rows = [
        [
            row.name,
            number(row.value),
            number(row.standard_error),
            row.result.unit,
            f"{row.result.samples:,}",
            str(row.result.seed),
            row.result.split or "-",
        ]
        for row in _rows(run)
    ]
    return columns, rows


def compared(runs: Sequence[RunResults]) -> Table:
    """Return runs side by side, value +- standard error, and for two their difference."""
    columns = ["metric", *(run.run for run in runs)]
    if len(runs) == 2:
        columns.append("difference")
    by_run = [{row.name: row for row in _rows(run)} for run in runs]
    names = list(dict.fromkeys(name for rows in by_run for name in rows))
    table = []
    for name in names:
        found = [rows.get(name) for rows in by_run]
        cells = ["-" if row is None else with_error(*row[1:3]) for row in found]
        if len(runs) == 2:
            cells.append(_difference(*found))
        table.append([f"{name} [{_unit(found)}]", *cells])
    return columns, table


def foot(runs: Sequence[RunResults]) -> list[str]:
    """Return what is to be said of the data, a line a run, or one line for all of them."""
    notes = [_data_note(run) for run in runs]
    if len(set(notes)) == 1:
        return [f"Data: {notes[0]}."] if notes[0] else []
    return [f"Data of {run.run}: {note}." for run, note in zip(runs, notes, strict=True) if note]


def _data_note(run: RunResults) -> str:
    found = (result.details.get("data_note") for result in run.results)
    return "; ".join(dict.fromkeys(filter(None, found)))


def _rows(run: RunResults) -> Iterator[Row]:
    for result in run.results:
        if result.metric == "leak":
            yield from _curve_rows(result)
        else:
            terms = result.error_terms.get("value")
            yield Row(result.metric, result.value, result.standard_error, result, terms)


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


def _unit(rows: Sequence[Row | None]) -> str:
    return next(row.result.unit for row in rows if row is not None)


def _difference(first: Row | None, second: Row | None) -> str:
    if first is None or second is None or first.value is None or second.value is None:
        return "-"
    return with_error(second.value - first.value, _error_of_difference(first, second), sign=True)


def _error_of_difference(first: Row, second: Row) -> float | None:
    """Return the error of a difference, paired by draws and examples where both have as many."""
    from dpvae_cli.mathematics.estimates import error_of_difference

    if first.error_terms is not None and second.error_terms is not None:
        return error_of_difference(first.error_terms, second.error_terms)
    if first.standard_error is None or second.standard_error is None:
        return None
    return math.hypot(first.standard_error, second.standard_error)

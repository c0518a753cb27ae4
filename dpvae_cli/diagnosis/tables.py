"""The tables of a diagnosis as text, the same on the terminal and on the page."""

from typing import NamedTuple

from dpvae_cli.diagnosis import Diagnosis
from dpvae_cli.diagnosis.record import Dimension, Quantity
from dpvae_cli.diagnosis.verdict import TITLES, amount, percent
from dpvae_cli.foundation.formatting import format_number, format_with_error
from dpvae_cli.foundation.results import Result


class Table(NamedTuple):
    """Columns and rows of text."""

    columns: list[str]
    rows: list[list[str]]


def quantities(found: Diagnosis) -> Table:
    """Return what was measured, where the null lies, and the verdict."""
    columns = ["what is measured", "this model", "null", "off above", "verdict"]
    return Table(columns, [_quantity(each) for each in found.quantities])


def _quantity(each: Quantity) -> list[str]:
    amounts = [amount(each, value) for value in (each.value, each.null, each.limit)]
    return [TITLES[each.name], *amounts, "off" if each.is_off else "within the null"]


def dimensions(found: Diagnosis) -> Table:
    """Return every dimension."""
    columns = ["dimension", "distance", "null", "off above", "variance of means", "verdict"]
    return Table(columns, [_dimension(each) for each in found.dimensions])


def _dimension(each: Dimension) -> list[str]:
    states = [("off", each.mismatch.is_off), ("inactive", not each.is_active)]
    verdict = ", ".join(state for state, holds in states if holds) or "within the null"
    distances = [each.mismatch.value, each.mismatch.null, each.mismatch.limit]
    shown = [f"{value:.3f}" for value in distances]
    return [str(each.index), *shown, format_number(each.variance_of_means), verdict]


def repairs(found: Diagnosis) -> Table:
    """Return the priors tried, and in the first row the model's own."""
    columns = ["prior", "gain [nats a code]", "samples in pockets", "codes leaked", "seconds"]
    own = [percent(found[name].value) for name in ("pocket_share", "leak_share")]
    rows = [[f"{found.prior} (as it is)", "-", *own, "-"]]
    for each in found.repairs:
        gain = format_with_error(each.gain, each.standard_error, sign=True)
        shares = [percent(each.pocket_share), percent(each.leak_share)]
        rows.append([each.prior, gain, *shares, f"{each.seconds:.0f}"])
    return Table(columns, rows)


def low_posterior(found: Diagnosis) -> Table | None:
    """Return decoded samples compared with the data; None where they were not."""
    random, lowest = found.low_posterior.random, found.low_posterior.lowest
    if random is None or lowest is None:
        return None
    null = lowest.details.get("null")
    by_prior = null if isinstance(null, dict) else {}
    rows = [
        ["random samples", _measured(random)],
        ["those with the lowest log q(z)", _measured(lowest)],
        [
            "null: those with the lowest log p(z)",
            format_with_error(_finite(by_prior, "value"), _finite(by_prior, "standard_error")),
        ],
    ]
    return Table(["samples", f"{random.metric} [{random.unit}]"], rows)


def _measured(result: Result) -> str:
    return format_with_error(result.value, result.standard_error)


def _finite(values: dict[str, object], key: str) -> float | None:
    value = values.get(key)
    return float(value) if isinstance(value, int | float) else None

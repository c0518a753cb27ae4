"""The tables of a diagnosis as text, the same on the terminal and on the page."""

from typing import NamedTuple

from dpvae_cli.diagnosis import Diagnosis
from dpvae_cli.diagnosis.record import Quantity, sees
from dpvae_cli.diagnosis.verdict import TITLES, amount, percent
from dpvae_cli.foundation.text import format_number, format_with_error

SUPPORT = (
    "Precision and density see pockets, recall and coverage see leaks; samples as good as data "
    "reach the value of held-out examples."
)


class Table(NamedTuple):
    """Columns and rows of text."""

    columns: list[str]
    rows: list[list[str]]


def quantities(diagnosis: Diagnosis) -> Table:
    """Return every quantity with its null, its limit and the verdict."""
    columns = ["what is measured", "this model", "null", "off above", "verdict"]

    def row(each: Quantity) -> list[str]:
        amounts = [amount(each, value) for value in (each.value, each.null, each.limit)]
        return [TITLES[each.name], *amounts, "off" if each.is_off else "within the null"]

    return Table(columns, [row(each) for each in diagnosis.quantities])


def dimensions(diagnosis: Diagnosis) -> Table:
    """Return every dimension."""
    columns = ["dimension", "distance", "null", "off above", "variance of means", "verdict"]
    rows = []
    for each in diagnosis.dimensions:
        states = [("off", each.mismatch.is_off), ("inactive", not each.is_active)]
        verdict = ", ".join(state for state, holds in states if holds) or "within the null"
        distances = (each.mismatch.value, each.mismatch.null, each.mismatch.limit)
        variance = format_number(each.variance_of_means)
        rows.append([str(each.index), *(f"{d:.3f}" for d in distances), variance, verdict])
    return Table(columns, rows)


def repairs(diagnosis: Diagnosis) -> Table:
    """Return the priors tried, and in the first row the model's own."""
    columns = ["prior", "gain [nats a code]", "samples in pockets", "codes leaked", "seconds"]
    own = [percent(diagnosis[name].value) for name in ("pocket_share", "leak_share")]
    rows = [[f"{diagnosis.prior} (as it is)", "-", *own, "-"]]
    for each in diagnosis.repairs:
        gain = format_with_error(each.gain, each.standard_error, sign=True)
        shares = [percent(each.pocket_share), percent(each.leak_share)]
        rows.append([each.prior, gain, *shares, f"{each.seconds:.0f}"])
    return Table(columns, rows)


def support(diagnosis: Diagnosis) -> Table:
    """Return precision, recall, density and coverage with those of held-out examples."""
    rows = []
    for each in diagnosis.support:
        numbers = each.details.get("held_out")
        of_null = numbers if isinstance(numbers, dict) else {}
        value, error = (_number(of_null.get(name)) for name in ("value", "standard_error"))
        amounts = [
            format_with_error(each.value, each.standard_error),
            format_with_error(value, error),
        ]
        rows.append([each.metric, *amounts, str(sees(each.metric))])
    return Table(["samples and examples", "this model", "held-out examples", "sees"], rows)


def _number(given: object) -> float | None:
    return float(given) if isinstance(given, int | float) else None


def low_posterior_table(diagnosis: Diagnosis) -> Table | None:
    """Return decoded samples compared with the data; None if they were not."""
    random, lowest = diagnosis.low_posterior.random, diagnosis.low_posterior.lowest
    if random is None or lowest is None:
        return None
    null = lowest.details.get("null")
    numbers = map(null.get if isinstance(null, dict) else {}.get, ("value", "standard_error"))
    value, error = map(_number, numbers)
    rows = [
        ["random samples", format_with_error(random.value, random.standard_error)],
        ["those with the lowest log q(z)", format_with_error(lowest.value, lowest.standard_error)],
        ["null: those with the lowest log p(z)", format_with_error(value, error)],
    ]
    return Table(["samples", f"{random.metric} [{random.unit}]"], rows)

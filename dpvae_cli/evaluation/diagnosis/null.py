"""The quantities and their null case over several splits of the codes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from dpvae_cli.evaluation.active_units import are_active
from dpvae_cli.evaluation.diagnosis.quantities import (
    Drawn,
    Quantities,
    Split,
    drawn,
    measured,
    null_case,
    split,
)
from dpvae_cli.evaluation.diagnosis.record import Dimension, Name, Quantity
from dpvae_cli.evaluation.diagnosis.sides import Side
from dpvae_cli.evaluation.subject import Subject
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior

LEAST = 8
"""Examples of which halves can be taken and held against each other."""
UNITS = {"pocket_share": "share", "leak_share": "share", "marginals": "distance"}


class Found(NamedTuple):
    """The quantities of a split, those of its null, and what they were measured on."""

    of_model: Quantities
    of_null: Quantities
    drawn: Drawn
    at: Split


def over_splits(
    subject: Subject, prior: Side, *, splits: int, samples: int, components: int
) -> Iterator[Found]:
    """Measure a prior and the null case in independent random splits.

    Args:
        subject: the model with its codes, its seed and who hears of the splits.
        prior: stands where the prior stands.
        splits: how many.
        samples: codes that are drawn of either side.
        components: the most codes that go into a half.
    """
    aggregate = subject.aggregate
    refuse_too_few(len(aggregate))
    for index in range(splits):
        subject.progress("diagnosis: splits", index, splits)
        generator = subject.generator("diagnosis", index)
        size = min(len(aggregate) // 2, components)
        order = torch.randperm(len(aggregate), generator=generator)
        halves = part(aggregate, order[:size]), part(aggregate, order[size : 2 * size])
        at = split(halves, samples, generator=generator)
        found = drawn(prior, at, generator=generator)
        null = null_case(prior, found, at, generator=generator)
        yield Found(measured(found, at), null, found, at)
    subject.progress("diagnosis: splits", splits, splits)


def part(aggregate: AggregatePosterior, rows: Tensor) -> AggregatePosterior:
    """Return q(z) over some of the codes."""
    rows = rows.to(aggregate.mean.device)
    return AggregatePosterior(aggregate.mean[rows], aggregate.log_variance[rows])


def refuse_too_few(count: int) -> None:
    """Refuse codes that are too few to be split.

    Raises:
        UsageError: they are.
    """
    if count < LEAST:
        raise UsageError(
            f"a diagnosis splits the training codes in two, and there are {count}",
            hint=f"{LEAST} training examples are the least, thousands are better.",
        )


def quantities(found: Sequence[Found]) -> tuple[Quantity, ...]:
    """Return each quantity with its null; of the marginals the dimension that differs most."""
    return tuple(_quantity(name, found) for name in get_args(Name))


def _quantity(name: Name, found: Sequence[Found]) -> Quantity:
    values, nulls = (
        torch.tensor([_largest(getattr(each, name)) for each in side], dtype=torch.float64)
        for side in zip(*[each[:2] for each in found], strict=True)
    )
    return _judged(name, values, nulls)


def _largest(value: float | Tensor) -> float:
    return value if isinstance(value, float) else float(value.max())


def _judged(name: Name, values: Tensor, nulls: Tensor) -> Quantity:
    """Return means over splits and the spread of their difference.

    Halves of the same codes see only half the variance of codes drawn anew.
    """
    spread = (2 * (values - nulls).var()).sqrt()
    unit = UNITS.get(name, "nats")
    return Quantity(name, float(values.mean()), float(nulls.mean()), float(spread), unit)


def dimensions(found: Sequence[Found], codes: AggregatePosterior) -> tuple[Dimension, ...]:
    """Return every dimension, its marginals held against the largest distance in the null."""
    values = torch.stack([each.of_model.marginals for each in found], dim=1)
    nulls = torch.tensor([_largest(each.of_null.marginals) for each in found], dtype=torch.float64)
    means, noise = codes.mean.cpu(), codes.log_variance.exp().cpu()
    variances = means.var(dim=0, correction=0).tolist()
    active = are_active(means, noise).tolist()
    return tuple(
        Dimension(index, _judged("marginals", row, nulls), variance, is_active)
        for index, (row, variance, is_active) in enumerate(
            zip(values, variances, active, strict=True)
        )
    )

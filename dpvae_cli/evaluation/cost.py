"""What the prior costs: microseconds for each sample and each log-density."""

import time
from collections.abc import Callable

import torch

from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.foundation.results import Result
from dpvae_cli.mathematics.estimates import mean_and_error

ROWS, REPEATS = 1_000, 20
"""Codes of each call, and calls that are timed, after one that is not."""


@torch.no_grad()
def cost(context: EvaluationContext) -> list[Result]:
    """Time drawing z from the prior and evaluating log p(z), decoder not included.

    The machine and what else it does are in these numbers: only those measured together compare.
    """
    prior, device = context.model.prior, context.model.device
    generator = torch.Generator(device=device).manual_seed(context.seed)
    z = prior.sample(ROWS, generator=generator)
    calls: dict[str, Callable[[], object]] = {
        "cost": lambda: prior.sample(ROWS, generator=generator),
        "cost_density": lambda: prior.log_prob(z),
    }
    return [_result(context, name, _microseconds(call, device)) for name, call in calls.items()]


def _microseconds(call: Callable[[], object], device: torch.device) -> list[float]:
    """Return the time of each repeat, a row."""
    call()
    found = []
    for _ in range(REPEATS):
        _wait(device)
        start = time.perf_counter()
        call()
        _wait(device)
        found.append(1e6 * (time.perf_counter() - start) / ROWS)
    return found


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _result(context: EvaluationContext, metric: str, found: list[float]) -> Result:
    times = torch.tensor(found, dtype=torch.float64)
    estimate = mean_and_error(times)
    return Result(
        metric=metric,
        value=estimate.value,
        standard_error=estimate.standard_error,
        unit="microseconds",
        samples=ROWS,
        seed=context.seed,
        split=None,
        details={
            "repeats": REPEATS,
            "fastest": float(times.min()),
            "slowest": float(times.max()),
            "device": context.model.device.type,
            "threads": torch.get_num_threads(),
        },
    )

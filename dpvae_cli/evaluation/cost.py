"""What the prior costs: microseconds for each sample and each log-density."""

import time
from collections.abc import Callable
from dataclasses import replace

import torch

from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.foundation.results import Result

ROWS, REPEATS = 1_000, 20
"""Codes of each call, and calls that are timed, after one that is not."""


@torch.no_grad()
def cost(context: EvaluationContext) -> list[Result]:
    """Time drawing z from the prior and evaluating log p(z), decoder not included.

    The numbers depend on the machine and its load: compare only those measured together.
    """
    prior, device = context.model.prior, context.model.device
    generator = torch.Generator(device=device).manual_seed(context.seed)
    z = prior.sample(ROWS, generator=generator)
    calls: dict[str, Callable[[], object]] = {
        "cost": lambda: prior.sample(ROWS, generator=generator),
        "cost_density": lambda: prior.log_prob(z),
    }
    results = []
    for name, call in calls.items():
        call()
        microseconds = []
        for _ in range(REPEATS):
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            start = time.perf_counter()
            call()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            microseconds.append(1e6 * (time.perf_counter() - start) / ROWS)
        times = torch.tensor(microseconds, dtype=torch.float64)  # per row
        result = context.mean_result(
            name,
            times,
            samples=ROWS,
            repeats=REPEATS,
            fastest=float(times.min()),
            slowest=float(times.max()),
            device=device.type,
            threads=torch.get_num_threads(),
        )
        results.append(replace(result, error_terms={}))
    return results

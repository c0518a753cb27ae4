"""Whether paths between examples cross pockets: the lowest log q(z) along them (section 5.3)."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dpvae_cli.evaluation.context import EvaluationContext, Progress
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.memory import map_in_chunks
from dpvae_cli.foundation.progress import report_progress
from dpvae_cli.foundation.results import Result
from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.mathematics.estimates import Estimate, mean_and_error
from dpvae_cli.model import VAE
from dpvae_cli.sampling.paths import Space, interpolate
from dpvae_cli.sampling.samples import encode

PAIRS = 100
POINTS = 101
"""Points of each path that log q(z) is taken at, both ends included."""
BLOCK = 10


@final
@dataclass(frozen=True)
class PathStatistics:
    """The lowest log q(z), in nats, on two paths between each of N pairs of codes.

    One path is straight in z, the other one, straight in z0, is its image under g^-1; `pairs` are
    rows of the codes, and `ends` has log q(z) at both.
    """

    pairs: Int[Tensor, "batch 2"]
    lowest_z: PerExample
    lowest_z0: PerExample
    ends: Float[Tensor, "batch 2"]

    def means(self) -> dict[str, Estimate]:
        """Return means over pairs, in nats, with their standard errors.

        `z` and `z0` are the lowest log q(z) on both paths, `difference` the gain of the line in z0;
        `end` is log q(z) at the ends, `lower_end` at the lower end of each pair, the highest that
        the lowest of a path can be. `drop_z` and `drop_z0` are how far paths fall below it: at
        least 0, and free of the scale of z.
        """
        lower_end = self.ends.amin(dim=1)
        values = {
            "z": self.lowest_z,
            "z0": self.lowest_z0,
            "difference": self.lowest_z0 - self.lowest_z,
            "end": self.ends.mean(dim=1),
            "lower_end": lower_end,
            "drop_z": lower_end - self.lowest_z,
            "drop_z0": lower_end - self.lowest_z0,
        }
        return {name: mean_and_error(each) for name, each in values.items()}


@torch.no_grad()
def path_statistics(
    model: VAE,
    aggregate: AggregatePosterior,
    codes: Codes,
    *,
    pairs: int = PAIRS,
    generator: torch.Generator,
    progress: Progress = report_progress,
) -> PathStatistics:
    """Compare two paths between random pairs of codes by the lowest log q(z) along them.

    min over s of log q((1 - s) a + s b) against min over s of
    log q(g^-1((1 - s) g(a) + s g(b))), both ends included, q(z) exact.

    `codes` are of held-out examples, in z; each pair is of two different rows, drawn independently.

    Source: paper, section 5.3 and Figure 6, where one pair is shown; the statistic is ours.

    Raises:
        UsageError: there are no two codes to pair, or the prior has no z0.
    """
    if (count := len(codes)) < 2:
        raise UsageError(f"there is no pair of examples among {count}")
    first = torch.randint(count, (pairs,), generator=generator)
    shift = torch.randint(1, count, (pairs,), generator=generator)
    chosen = torch.stack([first, (first + shift) % count], dim=1)
    lowest_z, lowest_z0, ends = [], [], []
    for block in chosen.split(BLOCK):
        start, end = (codes[block[:, side]].to(model.device) for side in (0, 1))
        in_z0 = _along(model, aggregate, start, end, space="z0")
        in_z = _along(model, aggregate, start, end, space="z")
        lowest_z.append(in_z.amin(dim=1))
        lowest_z0.append(in_z0.amin(dim=1))
        ends.append(in_z[:, [0, -1]])
        progress("path", sum(map(len, ends)), pairs)
    return PathStatistics(chosen, torch.cat(lowest_z), torch.cat(lowest_z0), torch.cat(ends))


def _along(
    model: VAE, aggregate: AggregatePosterior, start: Codes, end: Codes, *, space: Space
) -> Float[Tensor, "batch points"]:
    """Return log q(z) on each path, `(pairs, points)`, float64."""

    def log_q(rows: slice) -> Tensor:
        ends = start[rows], end[rows]
        if space == "z0":
            ends = (model.prior.to_generation(ends[0])[0], model.prior.to_generation(ends[1])[0])
        z, _ = interpolate(model, *ends, space=space, points=POINTS)
        return aggregate.log_prob(z.flatten(0, 1)).cpu().view(len(z), -1)

    chunks = map_in_chunks(log_q, len(start), size=BLOCK, what="log q(z) along paths")
    return torch.cat(list(chunks))


def path(context: EvaluationContext) -> list[Result]:
    """Measure the lowest log q(z) along lines in z and in z0 between pairs of held-out examples."""
    split = context.evaluation.split
    statistics = path_statistics(
        context.model,
        context.aggregate,
        encode(context.model, context.dataset.split(split)).mean,
        generator=context.generator("path"),
        progress=context.progress,
    )
    lowest = {
        "path": statistics.lowest_z0 - statistics.lowest_z,
        "path_z": statistics.lowest_z,
        "path_z0": statistics.lowest_z0,
    }
    means = statistics.means()
    shared = ("end", "lower_end", "drop_z", "drop_z0")
    details = {**{name: means[name]._asdict() for name in shared}, "points": POINTS}
    return [
        context.mean_result(name, values, split=split, **details) for name, values in lowest.items()
    ]

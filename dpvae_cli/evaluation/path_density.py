"""Whether paths between examples cross pockets: the lowest log q(z) along them (section 5.3)."""

from dataclasses import dataclass
from typing import Any, final

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
from dpvae_cli.mathematics.estimates import Estimate, error_terms_of_mean, mean_and_error
from dpvae_cli.model import VAE
from dpvae_cli.sampling.encodings import encode
from dpvae_cli.sampling.paths import Space, interpolate

PAIRS = 100
POINTS = 101
"""Points of each path that log q(z) is taken at, both ends included."""
BLOCK = 10


@final
@dataclass(frozen=True)
class PathStatistics:
    """The lowest log q(z), in nats, on two paths between each of N pairs of codes.

    Args:
        pairs: rows of the codes, `(pairs, 2)`.
        lowest_z: on the straight line in z, `(pairs,)`.
        lowest_z0: on the image under g^-1 of the straight line in z0, `(pairs,)`.
        ends: log q(z) at both ends, `(pairs, 2)`.
    """

    pairs: Int[Tensor, "batch 2"]
    lowest_z: PerExample
    lowest_z0: PerExample
    ends: Float[Tensor, "batch 2"]

    @property
    def z(self) -> Estimate:
        """Return the mean of the lowest log q(z) on straight lines in z."""
        return mean_and_error(self.lowest_z)

    @property
    def z0(self) -> Estimate:
        """Return the same for straight lines in z0."""
        return mean_and_error(self.lowest_z0)

    @property
    def difference(self) -> Estimate:
        """Return the mean gain of the line in z0 over the line in z; its error is that of pairs."""
        return mean_and_error(self.lowest_z0 - self.lowest_z)

    @property
    def end(self) -> Estimate:
        """Return the mean log q(z) of the pairs' ends; the error is over pairs."""
        return mean_and_error(self.ends.mean(dim=1))

    @property
    def lower_end(self) -> Estimate:
        """Return the mean of each pair's lower end: as high as the lowest of a path can be."""
        return mean_and_error(self.ends.amin(dim=1))

    def drop(self, space: Space) -> Estimate:
        """Return how far paths fall below their lower end, at least 0; free of the scale of z."""
        lowest = self.lowest_z0 if space == "z0" else self.lowest_z
        return mean_and_error(self.ends.amin(dim=1) - lowest)

    def details(self) -> dict[str, Any]:
        """Return every mean with its standard error, plain numbers."""
        means = {
            "end": self.end,
            "lower_end": self.lower_end,
            "drop_z": self.drop("z"),
            "drop_z0": self.drop("z0"),
        }
        return {name: estimate._asdict() for name, estimate in means.items()}


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

    Source: paper, section 5.3 and Figure 6, where one pair is shown; the statistic is ours.

    Args:
        model: the trained model.
        aggregate: q(z) over all encoded training examples.
        codes: of held-out examples, in z, one a row.
        pairs: how many, each of two different rows, drawn independently.
        generator: a CPU generator.
        progress: hears of the pairs.

    Raises:
        UsageError: there are no two codes to pair, or the prior has no z0.
    """
    chosen = _pairs(len(codes), pairs, generator)
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


def _pairs(count: int, pairs: int, generator: torch.Generator) -> Int[Tensor, "{pairs} 2"]:
    """Return `(pairs, 2)` positions, the two of a pair different."""
    if count < 2:
        raise UsageError(f"there is no pair of examples among {count}")
    first = torch.randint(count, (pairs,), generator=generator)
    shift = torch.randint(1, count, (pairs,), generator=generator)
    return torch.stack([first, (first + shift) % count], dim=1)


def _along(
    model: VAE, aggregate: AggregatePosterior, start: Codes, end: Codes, *, space: Space
) -> Float[Tensor, "batch points"]:
    """Return log q(z) on each path, `(pairs, points)`, float64."""
    parts = map_in_chunks(
        lambda rows: _along_some(model, aggregate, start[rows], end[rows], space=space),
        len(start),
        size=BLOCK,
        what="log q(z) along paths",
    )
    return torch.cat(list(parts))


def _along_some(
    model: VAE, aggregate: AggregatePosterior, start: Codes, end: Codes, *, space: Space
) -> Float[Tensor, "batch points"]:
    if space == "z0":
        start, end = (model.prior.to_generation(each)[0] for each in (start, end))
    z, _ = interpolate(model, start, end, space=space, points=POINTS)
    return aggregate.log_prob(z.flatten(0, 1)).cpu().view(len(z), -1)


def path(context: EvaluationContext) -> list[Result]:
    """Measure the lowest log q(z) along lines in z and in z0 between pairs of held-out examples."""
    split = context.evaluation.split
    found = path_statistics(
        context.model,
        context.aggregate,
        encode(context.model, context.dataset.split(split)).mean,
        generator=context.generator("path"),
        progress=context.progress,
    )
    return results(found, seed=context.seed, split=split)


def results(found: PathStatistics, *, seed: int, split: str) -> list[Result]:
    """Return `path_z`, `path_z0` and their difference `path` as records that share details."""
    details = {**found.details(), "points": POINTS}
    lowest = {
        "path": found.lowest_z0 - found.lowest_z,
        "path_z": found.lowest_z,
        "path_z0": found.lowest_z0,
    }
    return [
        Result(
            metric=metric,
            **mean_and_error(values)._asdict(),
            unit="nats",
            samples=len(found.pairs),
            seed=seed,
            split=split,
            details=details,
            error_terms={"value": error_terms_of_mean(values)},
        )
        for metric, values in lowest.items()
    ]

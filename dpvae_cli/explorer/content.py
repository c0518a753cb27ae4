"""Everything a page shows of one run, as JSON."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dpvae_cli.data import Dataset
from dpvae_cli.explorer.graphs import pack_graphs
from dpvae_cli.explorer.packing import (
    CODE_BYTES,
    LOG_DENSITY_BYTES,
    PICTURE_BYTES,
    POINT_BYTES,
    pack,
)
from dpvae_cli.explorer.shares import NAMES, TailShares, tail_shares
from dpvae_cli.exporter import ExportError
from dpvae_cli.foundation.errors import DpvaeError
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.foundation.shapes import Codes
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.model import VAE
from dpvae_cli.runs.loaded_run import LoadedRun
from dpvae_cli.sampling.paths import Space, interpolate, standard_deviations
from dpvae_cli.sampling.samples import (
    decode_to_data_units,
    drawable,
    encode,
    from_codes,
    high_posterior,
    low_posterior,
    prior_samples,
)

CELLS, SLICE_CELLS = 97, 49
"""Points along a side of an opening map: of all of a plane, and of a slice."""
DRAWS = 4_000
"""Samples of prior and of q(z) that ranges and principal components are taken from."""
STRAY, MARGIN = 0.002, 0.1
"""Share of the draws that a map need not show at either end, and what it adds to their range."""
FLOOR = 40.0
"""Nats below the threshold at which maps end."""
POINTS, EXTREMES, POOL = 3_000, 150, 5
"""Codes that are drawn as points, samples with low densities, and draws for each of these."""
EXAMPLES = 200
"""Test examples that a page has."""
PAIRS, PAIR_POINTS = 16, 61
"""Pairs of examples that the opening path is chosen from, and points on each path."""
PICTURES, PICTURES_BYTES = 25, 3 * 2**20
"""Decoded pictures along a side of the grid where there is no decoder, and their bytes at most."""
MAX_FACTORS = 12
BLOCK = 32
"""Codes that lie together, of which the page leaves out those far away; four times as many with
more than four dimensions."""


@final
@dataclass(frozen=True)
class RunContent:
    """What a page shows of a run.

    Args:
        run: the run.
        dataset: its data, None where it is missing.
        shares: of pockets and leaks.
        graphs: of the model, None where it cannot be exported.
        reason: why it cannot.
    """

    run: LoadedRun
    dataset: Dataset | None
    shares: TailShares
    graphs: dict[str, str] | None
    reason: str | None

    @property
    def model(self) -> VAE:
        """Return the model."""
        return self.run.model

    @property
    def aggregate(self) -> AggregatePosterior:
        """Return q(z)."""
        return self.run.encoded.aggregate_posterior()

    @property
    def spaces(self) -> list[Space]:
        """Return z, and z0 where there is one."""
        return ["z", "z0"] if self.model.prior.generation is not None else ["z"]

    def examples(self) -> Codes:
        """Return codes of the first test examples, or of training examples where there are none."""
        if self.dataset is None or not len(self.dataset.test):
            return self.aggregate.mean[:EXAMPLES].float().cpu()
        return encode(self.model, self.dataset.test.subset(slice(0, EXAMPLES))).mean.cpu()

    def to_json(
        self, rows: Int[Tensor, " rows"], ends: tuple[int, int], *, code_bytes: int
    ) -> dict[str, Any]:
        """Return the content.

        Args:
            rows: codes that q(z) in the page is over.
            ends: the two examples that the opening path joins.
            code_bytes: of each of their numbers.
        """
        points = rows[:POINTS]
        block = BLOCK if self.model.latent_dim <= 4 else 4 * BLOCK
        rows = rows[blocks_of_neighbours(self.aggregate.mean[rows].cpu().numpy(), block)]
        model, aggregate, run = self.model, self.aggregate, self.run
        examples = self.examples()
        base = examples[ends[0] : ends[0] + 1]
        spaces = {space: self._space(space, base) for space in self.spaces}
        kind = example_kind(model.example_shape)
        pool = POOL * EXTREMES
        low, high = (
            draw(model, aggregate, EXTREMES, pool=pool, generator=stream(0, "explore", "extremes"))
            for draw in (low_posterior, high_posterior)
        )
        return {
            "name": run.label,
            "prior": run.recipe.prior_name,
            "latentDim": model.latent_dim,
            "codes": len(aggregate),
            "hasGeneration": model.prior.generation is not None,
            "shares": {name: self.shares.quantities[name] for name in NAMES},
            "threshold": {"logQ": self.shares.threshold_log_q, "logP": self.shares.threshold_log_p},
            "quantiles": {
                "logQ": [max(each, -1e9) for each in self.shares.quantiles_log_q],
                "logP": [max(each, -1e9) for each in self.shares.quantiles_log_p],
            },
            "block": block,
            "mean": pack(aggregate.mean[rows].cpu().numpy(), code_bytes),
            "logVariance": pack(aggregate.log_variance[rows].cpu().numpy(), code_bytes),
            "points": points_among(points, rows).tolist(),
            "colours": self._colours(points),
            "spaces": spaces,
            "examples": pack(examples.numpy(), CODE_BYTES),
            "ends": list(ends),
            "low": pack(low.z.numpy(), POINT_BYTES),
            "high": pack(high.z.numpy(), POINT_BYTES),
            "x": {
                "kind": kind,
                "shape": list(model.example_shape),
                "columns": list(model.units.columns),
                "pixelRange": list(model.units.pixel_range),
                "data": self._data(kind),
            },
            "graphs": self.graphs,
            "grid": None if self.graphs else self._grid(spaces["z"], base, kind),
        }

    def _space(self, space: Space, base: Codes) -> dict[str, Any]:
        """Return ranges, deviations, axes and the opening map of a space."""
        model, aggregate = self.model, self.aggregate
        codes = from_codes(model, aggregate.sample(DRAWS, generator=stream(0, "explore", "codes")))
        prior = prior_samples(model, DRAWS, generator=stream(0, "explore", "prior"))
        means = from_codes(model, aggregate.mean[: 2 * DRAWS])
        if space == "z0":
            drawn = [each.z0 for each in (codes, prior, means)]
            base = model.prior.to_generation(base.to(model.device))[0].detach().cpu()
        else:
            drawn = [each.z for each in (codes, prior, means)]
        of_codes, of_prior, of_means = (each.double() for each in drawn if each is not None)
        low, high = (
            torch.stack([torch.quantile(each, level, dim=0) for each in (of_codes, of_prior)])
            for level in (STRAY, 1 - STRAY)
        )
        low, high = (
            torch.minimum(low.amin(dim=0), base[0]),
            torch.maximum(high.amax(dim=0), base[0]),
        )
        margin = MARGIN * (high - low)
        low, high = low - margin, high + margin
        axes = torch.argsort(of_means.var(dim=0), descending=True, stable=True)[:2].sort().values
        if len(axes) < 2:
            axes = torch.tensor([0, 0])
        # closed form in z, draws in z0
        covariance = aggregate.moments()[1].cpu() if space == "z" else torch.cov(of_codes.T)
        components = torch.linalg.eigh(covariance.reshape(len(low), -1)).eigenvectors.flip(1)
        return {
            "low": low.tolist(),
            "high": high.tolist(),
            "deviations": standard_deviations(model, aggregate, space=space).tolist(),
            "centre": of_codes.mean(dim=0).tolist(),
            "axes": axes.tolist(),
            "components": components[:, :2].T.tolist(),
            "base": base[0].tolist(),
            "map": self._map(space, base, axes, low, high),
        }

    def _map(
        self, space: Space, base: Codes, axes: Tensor, low: Tensor, high: Tensor
    ) -> dict[str, Any]:
        """Return log q(z), over all codes, and log p(z) on the plane of two axes through `base`."""
        model = self.model
        cells = CELLS if model.latent_dim <= 2 else SLICE_CELLS
        z = plane_grid(base, axes, low, high, cells)
        if space == "z0":
            with torch.no_grad():
                z = model.prior.points(z.to(model.device, model.dtype)).cpu()
        drawn = from_codes(model, z)
        thresholds = self.shares.threshold_log_q, self.shares.threshold_log_p
        densities = self.aggregate.log_prob(drawn.z).cpu(), drawn.log_p.double()
        floored = [
            torch.nan_to_num(each, nan=-math.inf).clamp(min=threshold - FLOOR)
            for each, threshold in zip(densities, thresholds, strict=True)
        ]
        log_q, log_p = (pack(each.numpy()[:, None], LOG_DENSITY_BYTES) for each in floored)
        return {"cells": cells, "axes": axes.tolist(), "logQ": log_q, "logP": log_p}

    def _colours(self, points: Int[Tensor, " points"]) -> list[dict[str, Any]]:
        """Return labels and factors of the codes that are drawn."""
        if self.dataset is None:
            return []
        train, colours = self.dataset.train, []
        if train.labels is not None and train.labels.ndim == 1:
            colours.append(("label", train.labels, False))
        if train.factors is not None:
            named = zip(self.dataset.factors, train.factors.T, strict=True)
            colours += [(each.name, values, each.is_ordered) for each, values in named]
        return [
            {
                "name": name,
                "isOrdered": is_ordered,
                "values": pack(values[points].double().numpy()[:, None], POINT_BYTES),
            }
            for name, values, is_ordered in colours[:MAX_FACTORS]
        ]

    def _pack_pictures(self, x: np.ndarray) -> dict[str, Any]:
        levels = drawable(self.model, x).reshape(len(x), -1, 1) / 255
        return pack(np.concatenate([levels.reshape(-1, 1), [[0.0], [1.0]]]), PICTURE_BYTES)

    def _data(self, kind: str) -> dict[str, Any] | None:
        """Return training points that the plane of x shows, or the range of every column."""
        if kind == "image" or self.dataset is None:
            return None
        x = self.model.units.inverse_transform(self.dataset.train.examples(slice(0, POINTS)))
        return pack(x.reshape(len(x), -1).numpy(), POINT_BYTES)

    def _grid(self, space: dict[str, Any], base: Codes, kind: str) -> dict[str, Any]:
        """Return decoded examples on the opening plane, for a page without a decoder."""
        size = math.prod(self.model.example_shape)
        side = max(5, min(PICTURES, math.isqrt(PICTURES_BYTES // size)))
        ends = torch.tensor(space["low"]), torch.tensor(space["high"])
        z = plane_grid(base, torch.tensor(space["axes"]), *ends, side)
        x = decode_to_data_units(self.model, z)
        packed = (
            self._pack_pictures(x) if kind == "image" else pack(x.reshape(len(x), -1), POINT_BYTES)
        )
        return {"side": side, "x": packed}


def plane_grid(
    base: Float[Tensor, "1 latent"], axes: Tensor, low: Tensor, high: Tensor, side: int
) -> Float[Tensor, "cells latent"]:
    """Return the points of a square grid in the plane of two axes through `base`, row by row.

    Rows go up the second axis; points are the centres of cells.
    """
    share = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    z = base.double().repeat(side * side, 1)
    along = low[axes] + share[:, None] * (high - low)[axes]
    z[:, axes[0]] = along[:, 0].repeat(side)
    z[:, axes[1]] = along[:, 1].repeat_interleave(side)
    return z


def blocks_of_neighbours(mean: np.ndarray, size: int) -> np.ndarray:
    """Return an order in which successive blocks of `size` codes are neighbours.

    Halves by the dimension with the widest range, at a multiple of `size`, until a block is left.
    """
    pending, order = [np.arange(len(mean))], []
    while pending:
        part = pending.pop()
        if len(part) <= size:
            order.append(part)
            continue
        widest = np.ptp(mean[part], axis=0).argmax()
        middle = size * max(1, round(len(part) / size / 2))
        part = part[np.argpartition(mean[part, widest], middle)]
        pending += [part[middle:], part[:middle]]
    return np.concatenate(order)


def points_among(points: Tensor, rows: Tensor) -> Tensor:
    """Return the positions of points among rows, which hold them all."""
    order = torch.argsort(rows)
    return order[torch.searchsorted(rows[order], points)]


def example_kind(shape: Sequence[int]) -> Literal["image", "point", "array"]:
    """Return how an example is drawn: as an image, a point in a plane, or bars."""
    if is_image(shape):
        return "image"
    return "point" if tuple(shape) == (2,) else "array"


def gather(run: LoadedRun) -> RunContent:
    """Return what a page shows of a run.

    Raises:
        UsageError: there are too few training examples.
    """
    dataset: Dataset | None = None
    try:
        dataset = run.load_dataset()
    except DpvaeError:
        if run.path.with_suffix(".encodings.npz").is_file():
            run.encoded.aggregate_posterior()
        else:
            raise
    try:
        graphs, reason = pack_graphs(run.model), None
    except ExportError as error:
        graphs, reason = None, " ".join(filter(None, (f"{error}.", error.hint)))
    return RunContent(run, dataset, tail_shares(run), graphs, reason)


def opening_path(runs: Sequence[RunContent]) -> tuple[int, int]:
    """Return two examples whose straight line in z falls deepest below the one in z0, if any does.

    Of a few random pairs, by the lowest log q(z); without a z0 that of the line in z alone.
    """
    generator = stream(0, "explore", "pairs")
    count = len(runs[0].examples())
    if count < 2:
        return 0, 0
    first = torch.randint(count, (PAIRS,), generator=generator)
    second = (first + torch.randint(1, count, (PAIRS,), generator=generator)) % count
    drops = torch.stack([_drops(each, first, second) for each in runs]).sum(dim=0)
    best = int(drops.argmax())
    return int(first[best]), int(second[best])


@torch.no_grad()
def _drops(content: RunContent, first: Tensor, second: Tensor) -> Float[Tensor, " pairs"]:
    """Return how far log q(z) falls on lines in z, less what it falls on lines in z0."""
    model, codes = content.model, content.examples().to(content.model.device)
    lowest = {}
    for space in content.spaces:
        in_space = codes if space == "z" else model.prior.to_generation(codes)[0]
        z, _ = interpolate(
            model, in_space[first], in_space[second], space=space, points=PAIR_POINTS
        )
        log_q = content.aggregate.log_prob(z.flatten(0, 1)).cpu().view(len(first), -1)
        lowest[space] = log_q.amin(dim=1).clamp(min=content.shares.threshold_log_q - FLOOR)
    # where the lines coincide, the deepest
    return lowest.get("z0", 0) - 1.001 * lowest["z"]

"""Metrics of codes from anywhere, without the model that they are of."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from dpvae_cli.data import Dataset, GenerativeFactor, Split
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.evaluation.evaluate import metric_names
from dpvae_cli.evaluation.metrics import METRICS, Need
from dpvae_cli.fitting.codes import LabelledCodes
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.model import VAE
from dpvae_cli.priors import Prior, StandardNormalPrior
from dpvae_cli.recipe import Evaluation
from dpvae_cli.sampling.samples import TrainingEncodings

HELD_OUT = 0.2
"""Share of the codes that q(z) is not made of; probes are tried on them."""
NO_DECODER = "codes alone have no decoder"


@final
class SavedCodes(nn.Module):
    """An encoder of codes: an example is its mean and log-variance side by side."""

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.like = nn.Parameter(torch.zeros_like(like[:0]), requires_grad=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return both halves of each row."""
        mean, log_variance = x.chunk(2, dim=1)
        return mean, log_variance


@final
class NoDecoder(nn.Module):
    """Stands where a decoder would."""

    def forward(self, z: Tensor) -> Tensor:
        """Raise an error.

        Raises:
            UsageError: always.
        """
        raise UsageError(NO_DECODER)


def context_of_codes(
    codes: LabelledCodes,
    prior: Prior | None = None,
    *,
    evaluation: Evaluation | None = None,
    held_out: float = HELD_OUT,
    seed: int = 0,
    device: torch.device | None = None,
) -> EvaluationContext:
    """Return what metrics of codes are computed from; only those of `METRICS` with `codes` work.

    Args:
        codes: with labels and factors, where they are known.
        prior: None stands for N(0, I).
        evaluation: sizes.
        held_out: share of the codes, at random, that is both the validation and the test split.
        seed: of the draws of every metric; the split is always the same.
        device: where to put codes and prior.

    Raises:
        UsageError: prior and codes have different dimensions.
    """
    mean, log_variance, labels, factors = codes
    prior = StandardNormalPrior(mean.shape[1]) if prior is None else prior
    if prior.latent_dim != mean.shape[1]:
        raise UsageError(
            f"the prior has {prior.latent_dim} dimensions, the codes have {mean.shape[1]}",
            hint="Fit a prior to these codes: dpvae fit-prior --codes FILE.",
        )
    like = next(prior.parameters(), mean)
    # a point is drawn without noise: exp(-inf / 2) = 0
    spread = torch.full_like(mean, -torch.inf) if log_variance is None else log_variance
    rows = torch.cat([mean, spread], dim=1)
    order = torch.randperm(len(rows), generator=stream(0, "codes", "held out"))
    held = round(held_out * len(rows))

    def part(index: Tensor) -> Split:
        known = (None if values is None else values[index] for values in (labels, factors))
        of_labels, of_factors = known
        return Split(rows[index], of_labels, factors=of_factors)

    unseen = part(order[:held])
    dataset = Dataset(
        "codes",
        train=part(order[held:].sort().values),
        validation=unseen,
        test=unseen,
        factors=tuple(  # nothing says that their values are ordered
            GenerativeFactor(f"factor {column}", is_ordered=False)
            for column in range(0 if factors is None else factors.shape[1])
        ),
    )
    model = VAE(
        encoder=SavedCodes(like),
        decoder=NoDecoder(),
        likelihood="gaussian",
        prior=prior,
        example_shape=tuple(rows.shape[1:]),
    )
    model = model.to(device).eval()
    encoded = TrainingEncodings(model, lambda: dataset)
    return EvaluationContext(model, lambda: dataset, encoded, evaluation or Evaluation(), seed)


def metrics_of_codes(given: str | None, codes: LabelledCodes, prior: Prior | None) -> list[str]:
    """Return the metrics of a comma-separated list that codes alone allow.

    Args:
        given: the list, as for `metric_names`; None takes the default ones and c2st.
        codes: which may be points, and may have labels and factors.
        prior: None stands for N(0, I).

    Raises:
        UsageError: a name is unknown, or its metric needs a decoder or variances.
    """
    has: dict[Need, bool] = {
        "generation space": prior is None or prior.generation is not None,
        "factors": codes.factors is not None,
        "labels": codes.labels is not None,
    }
    names = metric_names(given, [need for need, holds in has.items() if holds])
    allowed = ("points",) if codes.log_variance is None else ("points", "variances")
    if given is None or given.strip() == "all":
        found = [name for name in names if METRICS[name].codes in allowed]
        return found if "c2st" in found else [*found, "c2st"]
    _check_metrics(names, allowed)
    return names


def _check_metrics(names: Sequence[str], allowed: Sequence[str]) -> None:
    possible = ", ".join(name for name, metric in METRICS.items() if metric.codes in allowed)
    for name in names:
        if (takes := METRICS[name].codes) is None:
            raise UsageError(f"--metrics {name}: {NO_DECODER}", hint=f"Of codes: {possible}.")
        if takes not in allowed:
            raise UsageError(
                f"--metrics {name}: without log_variance codes are points, and q(z) has no density",
                hint=f"Of points: {possible}.",
            )

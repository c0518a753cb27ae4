"""The resampled prior: proposals of N(0, I) that a learned function accepts or rejects."""

import math
from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from dpvae_cli.foundation.randomness import normal_noise, stream, uniform_noise
from dpvae_cli.foundation.shapes import Codes, PerExample, Scalar
from dpvae_cli.mathematics.gaussian import standard_normal_log_prob
from dpvae_cli.priors.base import LogNormaliser, Prior, PriorSpec

DECAY = 0.99
"""Of the moving average of Z while training."""
EVALUATION_PROPOSALS, CHUNK_SIZE = 2**16, 2**13
"""Fixed proposals for the estimate of Z outside training, and how many are evaluated at a time."""
MIN_NORMALISER = 1e-6
"""Z stays this far from 0 and from 1, where its logarithms end."""


@final
class ResampledPrior(Prior):
    """p(z) = pi(z) [a(z) (1 - (1 - Z)^(T-1)) / Z + (1 - Z)^(T-1)], pi = N(0, I), Z = E_pi[a].

    A proposal z of pi is accepted with the learned probability a(z); the T-th is taken as it is.

    Z has no closed form. While training it is the mean of a over `draws` fresh proposals, in value
    its exponential moving average, in gradient that of the fresh mean. Otherwise it is the mean
    over the same 65,536 proposals every time, computed anew when the weights have changed or want
    gradients, and `log_normaliser` says how sure it is. Fresh proposals follow from how many
    estimates were made, which is part of the state, so a resumed run repeats an uninterrupted one.

    Source: Bauer and Mnih 2019, equations (2) and (6) and section 3; without the term by which
    their estimate of Z takes in the posterior's draw.

    Args:
        latent_dim: L.
        truncation: T, at least 2.
        hidden: width of the two hidden layers of a, with tanh (paper: 100).
        draws: proposals of an estimate while training.

    Example:
        >>> ResampledPrior(2).eval().log_prob(torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    smoothed: Tensor
    estimates: Tensor

    def __init__(
        self, latent_dim: int, *, truncation: int = 100, hidden: int = 100, draws: int = 1024
    ) -> None:
        super().__init__(latent_dim)
        self.truncation, self.draws = truncation, draws
        self.acceptance = nn.Sequential(
            nn.Linear(latent_dim, hidden),
            nn.Tanh(),
            nn.Linear(hidden, hidden),
            nn.Tanh(),
            nn.Linear(hidden, 1),
        )
        self.register_buffer("smoothed", torch.ones(()))
        self.register_buffer("estimates", torch.zeros((), dtype=torch.int64))
        self._cache: tuple[Tensor, Tensor, LogNormaliser] | None = None

    @property
    def log_normaliser(self) -> LogNormaliser:
        """Return log Z as it is outside training, with its standard error."""
        return self._evaluation_estimate()[1]

    def log_prob(self, z: Codes) -> PerExample:
        """Return log p(z) of each row, in nats; it contains an estimate of log Z."""
        wants_gradients = torch.is_grad_enabled() and any(
            weight.requires_grad for weight in self.acceptance.parameters()
        )
        if wants_gradients:
            mean = (
                self._training_estimate()
                if self.training
                else self._acceptance_probabilities().mean()
            )
        else:
            mean = self._evaluation_estimate()[0]
        mean = mean.clamp(MIN_NORMALISER, 1 - MIN_NORMALISER)
        log_rejected = (self.truncation - 1) * torch.log1p(-mean)
        log_share = torch.log(-torch.expm1(log_rejected)) - torch.log(mean)
        log_accepted = functional.logsigmoid(self._logit(z)) + log_share
        return standard_normal_log_prob(z) + torch.logaddexp(log_accepted, log_rejected)

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Codes:
        """Draw n points: the first accepted of T - 1 proposals, else the T-th; no gradients."""
        z = self._proposals(n, generator)
        left = torch.arange(n, device=z.device)
        for _ in range(self.truncation - 1):
            uniform = uniform_noise(len(left), like=z, generator=generator)
            left = left[uniform >= torch.sigmoid(self._logit(z[left]))]
            if len(left) == 0:
                break
            z[left] = self._proposals(len(left), generator)
        return z

    def _logit(self, z: Codes) -> PerExample:
        logit: Tensor = self.acceptance(z).squeeze(-1)
        return logit

    def _proposals(self, n: int, generator: torch.Generator | None) -> Codes:
        return normal_noise(n, self.latent_dim, like=self.smoothed, generator=generator)

    def _training_estimate(self) -> Scalar:
        """Return Z for one training step: averaged in value, fresh in gradient."""
        generator = stream(0, "resampled", int(self.estimates))
        fresh = torch.sigmoid(self._logit(self._proposals(self.draws, generator))).mean()
        with torch.no_grad():
            self.smoothed.lerp_(fresh, 1 - DECAY if int(self.estimates) else 1.0)
            self.estimates += 1
        return fresh + (self.smoothed - fresh).detach()

    def _acceptance_probabilities(self) -> PerExample:
        """Return a of every proposal that Z is estimated from outside training."""
        proposals = self._proposals(EVALUATION_PROPOSALS, stream(0, "resampled", "evaluation"))
        return torch.cat([torch.sigmoid(self._logit(z)) for z in proposals.split(CHUNK_SIZE)])

    @torch.no_grad()
    def _evaluation_estimate(self) -> tuple[Scalar, LogNormaliser]:
        """Return Z from many proposals; kept as long as the weights stay what they are."""
        if self._cache is not None and torch.compiler.is_exporting():
            return self._cache[1:]  # weights have no values there
        weights = torch.cat([weight.flatten() for weight in self.acceptance.parameters()])
        if self._cache is None or not _are_same(self._cache[0], weights):
            a = self._acceptance_probabilities()
            mean = a.mean()
            error = float(a.std() / mean) / math.sqrt(EVALUATION_PROPOSALS)
            known = LogNormaliser(
                math.log(max(float(mean), MIN_NORMALISER)), error, EVALUATION_PROPOSALS
            )
            self._cache = weights, mean, known
        return self._cache[1:]


def _are_same(a: Tensor, b: Tensor) -> bool:
    return (a.device, a.dtype) == (b.device, b.dtype) and torch.equal(a, b)


@final
class Resampled(PriorSpec):
    """N(0, I) resampled: proposals accepted or rejected by a learned function, T at most.

    Example:
        >>> import dpvae_cli as dpvae
        >>> dpvae.Resampled().build(latent_dim=2).sample(3).shape
        torch.Size([3, 2])
    """

    kind: Literal["resampled"] = "resampled"
    has_generation: ClassVar[bool] = False
    truncation: Annotated[int, Field(ge=2, le=10_000)] = 100
    """T: the proposal after T - 1 rejections is always accepted (paper: 100)."""
    hidden: Annotated[int, Field(ge=1)] = 100
    """Width of the two hidden layers of the acceptance function (paper: 100)."""
    draws: Annotated[int, Field(ge=2)] = 1024
    """Proposals per training step for the estimate of the normaliser Z (paper: 1024)."""

    def _build(self, latent_dim: int, *_: object) -> ResampledPrior:
        return ResampledPrior(
            latent_dim, truncation=self.truncation, hidden=self.hidden, draws=self.draws
        )

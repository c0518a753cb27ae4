"""Priors p(z) on the representation space: one spec class per kind, joined in `AnyPrior`."""

from typing import Annotated

from pydantic import Field

from dpvae_cli.priors.autoregressive import Autoregressive
from dpvae_cli.priors.base import LogDetEstimate, LogNormaliser, Prior
from dpvae_cli.priors.class_conditional import ClassConditionalPrior
from dpvae_cli.priors.decoupled import Decoupled, DecoupledPrior
from dpvae_cli.priors.flow_matching import FlowMatching, FlowMatchingPrior
from dpvae_cli.priors.mixture import Mixture, MixturePrior
from dpvae_cli.priors.resampled import Resampled, ResampledPrior
from dpvae_cli.priors.spline import Spline
from dpvae_cli.priors.standard_normal import StandardNormal, StandardNormalPrior
from dpvae_cli.priors.standardized import StandardizedPrior
from dpvae_cli.priors.student_t import StudentTPrior
from dpvae_cli.priors.vamp import Vamp, VampPrior

# New kinds are added at the end: the order decides the colours in plots.
_Trained = Decoupled | Spline | Autoregressive | Mixture | Vamp | Resampled
AnyPrior = Annotated[StandardNormal | _Trained, Field(discriminator="kind")]
"""Priors that a VAE can be trained with."""
LearnedPrior = Annotated[_Trained | FlowMatching, Field(discriminator="kind")]
"""Priors that have something to learn, and so can be fitted to codes."""

__all__ = [
    "AnyPrior",
    "Autoregressive",
    "ClassConditionalPrior",
    "Decoupled",
    "DecoupledPrior",
    "FlowMatching",
    "FlowMatchingPrior",
    "LearnedPrior",
    "LogDetEstimate",
    "LogNormaliser",
    "Mixture",
    "MixturePrior",
    "Prior",
    "Resampled",
    "ResampledPrior",
    "Spline",
    "StandardNormal",
    "StandardNormalPrior",
    "StandardizedPrior",
    "StudentTPrior",
    "Vamp",
    "VampPrior",
]

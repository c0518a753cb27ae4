"""What a diagnosis found, as numbers."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, final, get_args

import numpy as np

from dpvae_cli.foundation.results import Result, nonfinite_to_none

SCHEMA = 1
LEVEL = 3.0
"""Standard errors by which a value must exceed the null to be off."""
ROUNDING = 1e-4
"""An excess below this, whatever its unit, is float32's."""

Name = Literal[
    "pocket_share",
    "kl_prior_to_posterior",
    "leak_share",
    "kl_posterior_to_prior",
    "leakage_score",
    "held_out_leak_share",
    "held_out_outside_share",
    "marginals",
]
NAMES: tuple[Name, ...] = get_args(Name)
HELD_OUT: tuple[Name, ...] = ("held_out_leak_share", "held_out_outside_share")
"""What no prior mends."""


@final
@dataclass(frozen=True)
class Quantity:
    """A quantity, the same where q(z) equals the prior, and by how much either may differ.

    Args:
        name: of the quantity.
        value: of the model, a mean over splits.
        null: where q(z) equals the prior, a mean over the same splits.
        spread: standard error of value - null, from one draw of codes and samples to the next.
        unit: "share", "nats" or "distance".
        limit: the value beyond which the quantity is off.
    """

    name: Name
    value: float
    null: float
    spread: float
    unit: str
    limit: float

    @property
    def excess(self) -> float:
        """Return how much the value lies above the null."""
        return self.value - self.null

    @property
    def is_off(self) -> bool:
        """Tell whether the value lies beyond the null; NaN does."""
        return not self.value <= self.limit

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        judged = {"excess": self.excess, "is_off": self.is_off}
        return {key: nonfinite_to_none(value) for key, value in (asdict(self) | judged).items()}


@final
@dataclass(frozen=True)
class Dimension:
    """A latent dimension: its marginals' distance, and how much its posterior mean varies."""

    index: int
    mismatch: Quantity
    variance_of_means: float
    is_active: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "dimension": self.index,
            **{key: v for key, v in self.mismatch.to_json().items() if key != "name"},
            "variance_of_means": nonfinite_to_none(self.variance_of_means),
            "is_active": self.is_active,
        }


@final
@dataclass(frozen=True)
class CandidatePrior:
    """A prior tried in place of the model's own, fitted to its codes.

    Args:
        prior: its kind.
        gain: E_q[log p_new - log p_old] over held-out codes, in nats.
        standard_error: of the gain, over held-out examples.
        held_out: how many there were.
        pocket_share: of the new prior's samples.
        leak_share: of held-out codes under the new prior.
        seconds: that the try took.
        options: of `dpvae fit-prior`, which fits the same prior with them.
        has_generation: whether it has a generation space z0.
        samples: of it, to be decoded; not part of the JSON.
    """

    prior: str
    gain: float
    standard_error: float
    held_out: int
    pocket_share: float
    leak_share: float
    seconds: float
    options: str
    has_generation: bool
    samples: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def is_clear(self) -> bool:
        """Return whether the gain is significant on the held-out codes."""
        return self.gain == math.inf or self.gain > max(LEVEL * self.standard_error, ROUNDING)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        numbers = {key: value for key, value in asdict(self).items() if key != "samples"}
        return {key: nonfinite_to_none(value) for key, value in numbers.items()} | {
            "is_clear": self.is_clear
        }


@final
@dataclass(frozen=True)
class LowPosterior:
    """Random and low-posterior samples decoded and compared with data, or why they were not.

    Args:
        random: of random samples, a result of `fid` or `manifold`.
        lowest: of those with the lowest log q(z); its null is the same selection by log p(z).
        reason: why there is neither.
        hint: what to do about it.
    """

    random: Result | None = None
    lowest: Result | None = None
    reason: str = ""
    hint: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        results = {"random": self.random, "lowest": self.lowest}
        shown = {key: None if each is None else each.to_json() for key, each in results.items()}
        return shown | {"reason": self.reason, "hint": self.hint}


@final
@dataclass(frozen=True)
class Diagnosis:
    """Everything that one page says of a model.

    Args:
        prior: the kind of the model's prior.
        latent_dim: L.
        codes: encoded training examples.
        components: codes of one half.
        samples: draws of the prior.
        splits: how often the codes were split.
        seed: of every draw.
        held_out: encoded examples that the model was not trained on.
        can_tell: whether the codes would show that half of the prior's mass is empty.
        quantities: what was measured, in the order of `NAMES`.
        dimensions: all of them.
        low_posterior: decoded samples compared with data.
        repairs: priors that were tried.
        notes: what else is to be known.
        overfits_since: iteration of the best validation ELBO, where it fell ever since.
        arrays: what the figures are drawn from; not part of the JSON.
    """

    prior: str
    latent_dim: int
    codes: int
    components: int
    samples: int
    splits: int
    seed: int
    held_out: int
    can_tell: bool
    quantities: tuple[Quantity, ...]
    dimensions: tuple[Dimension, ...]
    low_posterior: LowPosterior
    repairs: tuple[CandidatePrior, ...]
    notes: tuple[str, ...] = ()
    overfits_since: int | None = None
    arrays: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def __getitem__(self, name: Name) -> Quantity:
        """Return the quantity of that name."""
        return next(each for each in self.quantities if each.name == name)

    @property
    def off(self) -> tuple[Quantity, ...]:
        """Return the quantities that lie beyond the null."""
        return tuple(each for each in self.quantities if each.is_off)

    @property
    def is_healthy(self) -> bool:
        """Tell whether nothing is off, there are codes enough to show it, and they are in use."""
        return not (self.off or self.overfits or self.has_collapsed) and self.can_tell

    @property
    def has_pockets(self) -> bool:
        """Tell whether more samples than in the null lie where hardly any code does."""
        return self["pocket_share"].is_off

    @property
    def leaks(self) -> bool:
        """Tell whether more codes than in the null lie where hardly any sample does."""
        return self["leak_share"].is_off

    @property
    def overfits(self) -> bool:
        """Tell whether held-out codes lie where hardly any training code or sample does.

        Or the validation ELBO fell. Where training codes leak as well, held-out codes that leak
        too are not a sign of it.
        """
        off = {each.name for each in self.off}
        leaks_more = "held_out_leak_share" in off and not self.leaks
        return "held_out_outside_share" in off or leaks_more or self.overfits_since is not None

    @property
    def off_dimensions(self) -> tuple[int, ...]:
        """Return the dimensions in which q(z_l) and p(z_l) differ by more than in the null."""
        return tuple(each.index for each in self.dimensions if each.mismatch.is_off)

    @property
    def inactive(self) -> tuple[int, ...]:
        """Return the dimensions that do not depend on the example."""
        return tuple(each.index for each in self.dimensions if not each.is_active)

    @property
    def has_collapsed(self) -> bool:
        """Tell whether no dimension depends on the example."""
        return len(self.inactive) == self.latent_dim

    @property
    def best_repair(self) -> CandidatePrior | None:
        """Return the tried prior with the largest clear gain."""
        clear = [each for each in self.repairs if each.is_clear]
        return max(clear, key=lambda each: each.gain, default=None)

    @property
    def recommended(self) -> CandidatePrior | None:
        """Return the best repair where there is something to mend that a prior can."""
        if self.has_collapsed or not any(each.name not in HELD_OUT for each in self.off):
            return None
        return self.best_repair

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON: the content of diagnosis.json, but for the run's own lines."""
        recommended = self.recommended
        return {
            "schema": SCHEMA,
            "prior": self.prior,
            "latent_dim": self.latent_dim,
            "codes": self.codes,
            "components": self.components,
            "samples": self.samples,
            "splits": self.splits,
            "seed": self.seed,
            "held_out": self.held_out,
            "level": LEVEL,
            "is_healthy": self.is_healthy,
            "has_pockets": self.has_pockets,
            "leaks": self.leaks,
            "overfits": self.overfits,
            "overfits_since": self.overfits_since,
            "can_tell": self.can_tell,
            "has_collapsed": self.has_collapsed,
            "off_dimensions": list(self.off_dimensions),
            "inactive_dimensions": list(self.inactive),
            "recommended": None if recommended is None else recommended.prior,
            "quantities": [each.to_json() for each in self.quantities],
            "dimensions": [each.to_json() for each in self.dimensions],
            "low_posterior": self.low_posterior.to_json(),
            "repairs": [each.to_json() for each in self.repairs],
            "notes": list(self.notes),
        }

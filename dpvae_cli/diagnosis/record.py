"""The results of a diagnosis, as numbers."""

import math
from dataclasses import asdict, dataclass, field
from pkgutil import resolve_name
from typing import Any, Literal, final, get_args

import numpy as np

from dpvae_cli.evaluation.metrics import is_requested
from dpvae_cli.foundation.results import Result
from dpvae_cli.foundation.text import nonfinite_to_none

SCHEMA = 1
LEVEL = 3.0
"""Standard errors by which a value must exceed the null to be off."""
ROUNDING = 1e-4
"""An excess below this, in any unit, is rounding of float32."""

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
"""Quantities that no prior can improve."""


SEES = {"precision": "pockets", "density": "pockets", "recall": "leaks", "coverage": "leaks"}
"""What lowers each metric of decoded samples and examples."""


def sees(metric: str) -> str | None:
    """Return what lowers a metric, of any features; None for others and low-posterior samples."""
    found = (fault for name, fault in SEES.items() if is_requested(metric, [name]))
    return next(found, None)


@final
@dataclass(frozen=True)
class Quantity:
    """A quantity of the model, its null, and the limit beyond which it is off.

    Args:
        name: of the quantity.
        value: of the model, a mean over splits.
        null: where q(z) equals the prior, a mean over the same splits.
        spread: standard error of value - null.
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
        """Tell whether the value lies beyond the limit; NaN does."""
        return not self.value <= self.limit

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        more = {"excess": self.excess, "is_off": self.is_off}
        return {key: nonfinite_to_none(value) for key, value in (asdict(self) | more).items()}


@final
@dataclass(frozen=True)
class Dimension:
    """A latent dimension: the distance of its marginals, and how much its posterior mean varies."""

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
    """A prior that was fitted to the codes in place of the model's own.

    `gain` is E_q[log p_new - log p_old] over held-out codes, in nats; `options` of `dpvae
    fit-prior` fit the same prior; `samples` of it, to be decoded, are not part of the JSON.
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
        """Tell whether the gain is beyond its standard error."""
        return self.gain == math.inf or self.gain > max(LEVEL * self.standard_error, ROUNDING)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        record = asdict(self) | {"is_clear": self.is_clear}
        return {k: nonfinite_to_none(v) for k, v in record.items() if k != "samples"}


@final
@dataclass(frozen=True)
class LowPosterior:
    """Random and low-posterior samples decoded and compared with data, or the reason why not.

    Both are results of `fid` or `manifold`; the null of `lowest` is the same selection by log p(z).
    """

    random: Result | None = None
    lowest: Result | None = None
    reason: str = ""
    hint: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "random": self.random and self.random.to_json(),
            "lowest": self.lowest and self.lowest.to_json(),
            "reason": self.reason,
            "hint": self.hint,
        }


@final
@dataclass(frozen=True)
class Diagnosis:
    """All results of a diagnosis.

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
        quantities: in the order of `NAMES`.
        dimensions: all of them.
        low_posterior: decoded samples compared with data.
        support: precision, recall, density and coverage of this model, where they were measured.
        repairs: priors that were fitted.
        notes: further remarks.
        overfits_since: iteration of the best validation ELBO, if it fell ever since.
        arrays: data of the figures; not part of the JSON.

    Example:
        >>> import dpvae_cli as dpvae
        >>> recipe = dpvae.load_recipe("vae_moons", ["data.train=500", "prior=standard_normal"])
        >>> budget = dpvae.DiagnosisBudget(splits=2, samples=500, tried={})
        >>> found = dpvae.diagnose(dpvae.build(recipe), recipe.data.load(), budget=budget)
        >>> [quantity.name for quantity in found.quantities][:2]
        ['pocket_share', 'kl_prior_to_posterior']
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
    support: tuple[Result, ...] = ()
    arrays: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def _repr_html_(self) -> str:
        view: str = resolve_name("dpvae_cli.diagnosis.page:notebook_view")(self)
        return view

    def __getitem__(self, name: Name) -> Quantity:
        """Return the quantity of that name."""
        return next(quantity for quantity in self.quantities if quantity.name == name)

    @property
    def off(self) -> tuple[Quantity, ...]:
        """Return the quantities beyond their limits."""
        return tuple(quantity for quantity in self.quantities if quantity.is_off)

    @property
    def is_healthy(self) -> bool:
        """Tell whether nothing is off, there are enough codes to show it, and they are in use."""
        return not (self.off or self.overfits or self.has_collapsed) and self.can_tell

    @property
    def has_pockets(self) -> bool:
        """Tell whether more samples than under the null lie where hardly any code does."""
        return self["pocket_share"].is_off

    @property
    def leaks(self) -> bool:
        """Tell whether more codes than under the null lie where hardly any sample does."""
        return self["leak_share"].is_off

    @property
    def overfits(self) -> bool:
        """Tell whether held-out codes lie where hardly any training code or sample does.

        Or the validation ELBO fell. If training codes leak as well, held-out codes that leak are
        no sign of it.
        """
        off = {quantity.name for quantity in self.off}
        leaks_more = "held_out_leak_share" in off and not self.leaks
        return "held_out_outside_share" in off or leaks_more or self.overfits_since is not None

    @property
    def off_dimensions(self) -> tuple[int, ...]:
        """Return the dimensions in which q(z_l) and p(z_l) differ by more than the limit."""
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
        """Return the candidate with the largest clear gain."""
        clear = [candidate for candidate in self.repairs if candidate.is_clear]
        return max(clear, key=lambda candidate: candidate.gain, default=None)

    @property
    def recommendation(self) -> CandidatePrior | None:
        """Return the best candidate if something is off that a prior can improve."""
        if self.has_collapsed or not any(each.name not in HELD_OUT for each in self.off):
            return None
        return self.best_repair

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON: the content of diagnosis.json without the description of the run."""
        keys = ("prior", "latent_dim", "codes", "components", "samples", "splits", "seed")
        verdicts = ("is_healthy", "has_pockets", "leaks", "overfits", "overfits_since", "can_tell")
        return {
            "schema": SCHEMA,
            **{key: getattr(self, key) for key in (*keys, "held_out")},
            "level": LEVEL,
            **{key: getattr(self, key) for key in (*verdicts, "has_collapsed")},
            "off_dimensions": list(self.off_dimensions),
            "inactive_dimensions": list(self.inactive),
            "recommended": self.recommendation and self.recommendation.prior,
            "quantities": [each.to_json() for each in self.quantities],
            "dimensions": [each.to_json() for each in self.dimensions],
            "low_posterior": self.low_posterior.to_json(),
            "support": [each.to_json() for each in self.support],
            "repairs": [each.to_json() for each in self.repairs],
            "notes": list(self.notes),
        }

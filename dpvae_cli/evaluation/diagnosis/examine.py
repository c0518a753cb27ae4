"""Diagnose a trained model: pockets, leaks, dimensions, and which prior would mend them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from dpvae_cli.data import Dataset
from dpvae_cli.evaluation.diagnosis import repairs
from dpvae_cli.evaluation.diagnosis.arrays import arrays
from dpvae_cli.evaluation.diagnosis.low_posterior import Compared, low_posterior
from dpvae_cli.evaluation.diagnosis.null import dimensions, over_splits, quantities
from dpvae_cli.evaluation.diagnosis.record import Diagnosis, Quantity, Repair
from dpvae_cli.evaluation.diagnosis.sides import of_model
from dpvae_cli.evaluation.subject import Subject
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.modes import evaluating
from dpvae_cli.foundation.results import Result
from dpvae_cli.model import CHECKED, VAE
from dpvae_cli.recipe import Evaluation, Fitting
from dpvae_cli.sampling.encodings import EncodedTraining

LEAST_SAMPLES = 10


@final
@dataclass(frozen=True)
class DiagnosisBudget:
    """How much a diagnosis may cost.

    Args:
        splits: of the codes into halves, two at least; the null's spread comes from them.
        samples: draws of either side in each split.
        components: the most codes that go into a half.
        tried: priors to try as a repair, as `--prior` takes them, and how each is fitted.
        fitting: how `dpvae fit-prior` fits that says nothing of it: the run's own section.
        fit_seed: of the fits, as the run's recipe has it; None takes that of the diagnosis.

    Raises:
        UsageError: one split alone has no spread, or hardly anything is drawn.
    """

    splits: int = 8
    samples: int = 4_000
    components: int = 10_000
    tried: Mapping[str, Fitting] = field(default_factory=lambda: repairs.TRIED)
    fitting: Fitting = field(default_factory=Fitting)
    fit_seed: int | None = None

    def __post_init__(self) -> None:
        if self.splits < 2 or self.samples < LEAST_SAMPLES:
            raise UsageError(
                f"splits={self.splits}, samples={self.samples}: a diagnosis takes 2 splits and "
                f"{LEAST_SAMPLES} samples at the least"
            )


def diagnose(
    model: VAE,
    data: Dataset,
    *,
    budget: DiagnosisBudget | None = None,
    evaluation: Evaluation | None = None,
    seed: int = 0,
) -> Diagnosis:
    """Diagnose a model with the data it was trained on.

    Args:
        model: a trained model; put into evaluation mode meanwhile.
        data: what it was trained on; q(z) is over its training split.
        budget: how much it may cost.
        evaluation: sizes of what is measured of decoded samples; the paper's by default.
        seed: of every draw.

    Returns:
        What it found; `dpvae_cli.evaluation.diagnosis.words` puts it into sentences.

    Raises:
        UsageError: the model does not fit the data, or there are too few examples.

    Example:
        >>> import dpvae_cli as dpvae
        >>> recipe = dpvae.Recipe.load("vae_moons", ["data.train=500", "prior=standard_normal"])
        >>> data, model = recipe.data.load(), dpvae.build(recipe)
        >>> budget = dpvae.DiagnosisBudget(splits=3, samples=500, tried={})
        >>> dpvae.diagnose(model, data, budget=budget).is_healthy
        False
    """
    model.check(data.train.examples(slice(0, CHECKED)).to(model.device, model.dtype))
    encoded = EncodedTraining(model, lambda: data)
    subject = Subject(model, lambda: data, encoded, evaluation or Evaluation(), seed)
    with evaluating(model):
        return examined(
            subject,
            budget=budget or DiagnosisBudget(),
            compare=None if data.distance_to_manifold is None else "manifold",
        )


def examined(
    subject: Subject,
    *,
    budget: DiagnosisBudget,
    compare: Compared | None = None,
    earlier: Sequence[Result] = (),
) -> Diagnosis:
    """Return what is found of a subject.

    Args:
        subject: the model with its codes and its data.
        budget: how much it may cost.
        compare: measure decoded samples so; None takes what `earlier` has.
        earlier: results of this very model.

    Raises:
        UsageError: there are too few examples.
    """
    model, prior = subject.model, of_model(subject.model)
    found = list(
        over_splits(
            subject,
            prior,
            splits=budget.splits,
            samples=budget.samples,
            components=budget.components,
        )
    )
    seed = subject.seed if budget.fit_seed is None else budget.fit_seed
    attempts = list(repairs.try_priors(subject, budget.tried, usual=budget.fitting, seed=seed))
    judged = quantities(found)
    return Diagnosis(
        prior=model.prior.spec.kind if model.prior.spec else type(model.prior).__name__,
        latent_dim=model.latent_dim,
        codes=len(subject.aggregate),
        components=len(found[0].at.q),
        samples=budget.samples,
        splits=budget.splits,
        seed=subject.seed,
        quantities=judged,
        dimensions=dimensions(found, subject.aggregate),
        low_posterior=low_posterior(subject, compare, earlier),
        repairs=tuple(each for each in attempts if isinstance(each, Repair)),
        notes=(
            *_notes(judged, len(found[0].at.q), model.latent_dim),
            *(each for each in attempts if isinstance(each, str)),
        ),
        arrays=arrays(subject, found[0]),
    )


def _notes(judged: Sequence[Quantity], half: int, latent_dim: int) -> list[str]:
    """Say where the codes are so few for their dimensions that KL can tell little."""
    null = max(each.null for each in judged if each.name.startswith("kl_"))
    if null < 1:
        return []
    return [
        f"Two halves of {half:,} codes each in {latent_dim} dimensions are up to {null:.2g} nats "
        "apart: so many codes do not fill the space, and the two KL divergences and the leakage "
        "score can show large mismatches only. The shares, the marginals and the gain of a repair "
        "do not suffer from it."
    ]

"""Diagnose a trained model: pockets, leaks, dimensions, and which prior would mend them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from dpvae_cli.data import Dataset
from dpvae_cli.diagnosis import candidates, null
from dpvae_cli.diagnosis.densities import from_model
from dpvae_cli.diagnosis.figure_data import arrays, images
from dpvae_cli.diagnosis.low_posterior import SampleMetric, low_posterior
from dpvae_cli.diagnosis.record import NAMES, CandidatePrior, Diagnosis, Quantity
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.foundation.modes import eval_mode
from dpvae_cli.foundation.results import Result
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.model import PROBE_BATCH_SIZE, VAE
from dpvae_cli.recipe import Evaluation, Fitting
from dpvae_cli.sampling.encodings import TrainingEncodings, encode

LEAST_SAMPLES = 10


@final
@dataclass(frozen=True)
class DiagnosisBudget:
    """How much a diagnosis may cost.

    Args:
        splits: how often the codes are split into halves, each of which plays both parts.
        samples: draws of the prior, and the most of codes.
        components: the most codes that go into a half.
        tried: priors to try as a repair, as `--prior` takes them, and how each is fitted.
        fitting: how `dpvae fit-prior` fits that says nothing of it: the run's own section.
        fit_seed: of the fits, as the run's recipe has it; None takes that of the diagnosis.

    Raises:
        UsageError: there is no split, or hardly anything is drawn.
    """

    splits: int = 4
    samples: int = 8_000
    components: int = 10_000
    tried: Mapping[str, Fitting] = field(default_factory=lambda: candidates.CANDIDATE_PRIORS)
    fitting: Fitting = field(default_factory=Fitting)
    fit_seed: int | None = None

    def __post_init__(self) -> None:
        if self.splits < 1 or self.samples < LEAST_SAMPLES:
            raise UsageError(
                f"splits={self.splits}, samples={self.samples}: a diagnosis takes 1 split and "
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
        What it found; `dpvae_cli.diagnosis.verdict` puts it into sentences.

    Raises:
        UsageError: the model does not fit the data, or there are too few examples.

    Example:
        >>> import dpvae_cli as dpvae
        >>> recipe = dpvae.load_recipe("vae_moons", ["data.train=500", "prior=standard_normal"])
        >>> data, model = recipe.data.load(), dpvae.build(recipe)
        >>> budget = dpvae.DiagnosisBudget(splits=3, samples=500, tried={})
        >>> dpvae.diagnose(model, data, budget=budget).is_healthy
        False
    """
    model.check(data.train.examples(slice(0, PROBE_BATCH_SIZE)).to(model.device, model.dtype))
    encoded = TrainingEncodings(model, lambda: data)
    context = EvaluationContext(model, lambda: data, encoded, evaluation or Evaluation(), seed)
    with eval_mode(model):
        return run_diagnosis(
            context,
            budget=budget or DiagnosisBudget(),
            compare=None if data.distance_to_manifold is None else "manifold",
        )


def run_diagnosis(
    context: EvaluationContext,
    *,
    budget: DiagnosisBudget,
    compare: SampleMetric | None = None,
    earlier: Sequence[Result] = (),
    overfits_since: int | None = None,
) -> Diagnosis:
    """Return what is found of a context.

    Args:
        context: the model with its codes and its data.
        budget: how much it may cost.
        compare: measure decoded samples so; None takes what `earlier` has.
        earlier: results of this very model.
        overfits_since: iteration of the best validation ELBO, where it fell ever since.

    Raises:
        UsageError: there are too few examples.
    """
    model, prior = context.model, from_model(context.model)
    held_out, unread = _held_out(context, budget.components)
    at = null.draw_splits(
        context,
        prior,
        held_out,
        splits=budget.splits,
        samples=budget.samples,
        components=budget.components,
    )
    mismatch, dimensions = null.marginals(at, context.aggregate)
    judged = (*null.shares(at), *null.nats(at), mismatch)
    half = len(at.groups.codes) // 2
    seed = context.seed if budget.fit_seed is None else budget.fit_seed
    attempts = list(candidates.try_priors(context, budget.tried, usual=budget.fitting, seed=seed))
    found = Diagnosis(
        prior=model.prior.spec.kind if model.prior.spec else type(model.prior).__name__,
        latent_dim=model.latent_dim,
        codes=len(context.aggregate),
        components=half,
        samples=budget.samples,
        splits=budget.splits,
        seed=context.seed,
        held_out=0 if held_out is None else len(held_out),
        can_tell=null.shows_half_empty(at, judged),
        quantities=tuple(sorted(judged, key=lambda each: NAMES.index(each.name))),
        dimensions=dimensions,
        low_posterior=low_posterior(context, compare, earlier),
        repairs=tuple(each for each in attempts if isinstance(each, CandidatePrior)),
        notes=(
            *unread,
            *_notes(judged, half, model.latent_dim),
            *(each for each in attempts if isinstance(each, str)),
        ),
        overfits_since=overfits_since,
        arrays=arrays(context, at),
    )
    found.arrays.update(images(context, at, found.recommended))
    return found


def _held_out(context: EvaluationContext, most: int) -> tuple[AggregatePosterior | None, list[str]]:
    """Return the codes of held-out examples, and a note where there are none."""
    try:
        data = context.dataset
    except DpvaeError as error:
        return None, [f"Held-out codes were not looked at: {error}."]
    split = data.validation if len(data.validation) else data.test
    if not len(split):
        return None, ["Held-out codes were not looked at: the data has neither split."]
    posterior = encode(context.model, split.subset(slice(0, most)))
    return AggregatePosterior(posterior.mean, posterior.log_variance), []


def _notes(judged: Sequence[Quantity], half: int, latent_dim: int) -> list[str]:
    """Say where the codes are so few for their dimensions that KL can tell little."""
    null = max(each.null for each in judged if each.name.startswith("kl_"))
    if null < 1:
        return []
    return [
        f"Two halves of {half:,} codes each in {latent_dim} dimensions are up to {null:.2g} nats "
        "apart: they do not fill the space, and the two KL divergences and the leakage "
        "score can show large mismatches only. Leaks, the marginals and the gain of a repair do "
        "not suffer from it."
    ]

"""Diagnose a trained model: pockets, leaks, dimensions, and which prior would repair them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, final

import numpy as np
import torch

from dpvae_cli.data import Dataset
from dpvae_cli.diagnosis import candidates, null
from dpvae_cli.diagnosis.groups import TAIL, are_in
from dpvae_cli.diagnosis.record import NAMES, CandidatePrior, Diagnosis, LowPosterior, sees
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.evaluation.metrics import METRICS
from dpvae_cli.evaluation.own_codes import NO_DECODER, NoDecoder
from dpvae_cli.foundation.devices import eval_mode
from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.foundation.results import Result
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.model import PROBE_BATCH_SIZE, VAE
from dpvae_cli.recipe import Evaluation, Fitting
from dpvae_cli.sampling.gallery import IMAGES, POOL, decoded_samples
from dpvae_cli.sampling.plane import density_map
from dpvae_cli.sampling.samples import TrainingEncodings, encode

MIN_SAMPLES = 10
SHOWN = 2_000
"""Codes of either side that the plane shows."""
SampleMetric = Literal["manifold", "fid"]
IMAGE_HINT = "dpvae diagnose CKPT --inception-weights FILE measures it, in minutes to hours."
OTHER_HINT = "It is measured on images by FID, and on moons by the distance to them unless --quick."


@final
@dataclass(frozen=True)
class DiagnosisBudget:
    """How much a diagnosis may cost.

    Args:
        splits: how often the codes are split into halves, each of which takes both roles.
        samples: draws of the prior, and at most as many of codes.
        components: the maximal number of codes in a half.
        tried: priors to fit as a repair, as `--prior` takes them, and how each is fitted.
        fitting: the run's own section, which `dpvae fit-prior` starts from.
        fit_seed: of the fits; None takes the seed of the diagnosis.

    Raises:
        UsageError: there is no split, or there are too few samples.

    Example:
        >>> import dpvae_cli as dpvae
        >>> dpvae.DiagnosisBudget(splits=3, samples=500, tried={}).splits  # fits no prior
        3
    """

    splits: int = 4
    samples: int = 8_000
    components: int = 10_000
    tried: Mapping[str, Fitting] = field(default_factory=lambda: candidates.CANDIDATE_PRIORS)
    fitting: Fitting = field(default_factory=Fitting)
    fit_seed: int | None = None

    def __post_init__(self) -> None:
        if self.splits < 1 or self.samples < MIN_SAMPLES:
            raise UsageError(
                f"splits={self.splits}, samples={self.samples}: a diagnosis needs at least "
                f"1 split and {MIN_SAMPLES} samples"
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
        evaluation: sizes of the metrics of decoded samples; the paper's by default.
        seed: of every draw.

    Returns:
        The numbers; `dpvae_cli.diagnosis.verdict` describes them in sentences.

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


@final
class DiagnosisDraws(NamedTuple):
    """What the quantities are computed from, the held-out examples, and remarks on them."""

    splits: null.HalfSplits
    held_out: int
    notes: list[str]


def draw_halves(context: EvaluationContext, budget: DiagnosisBudget) -> DiagnosisDraws:
    """Draw from prior, codes and held-out codes, and split the codes into halves.

    Raises:
        UsageError: there are too few examples.
    """
    model, notes, held_out = context.model, [], None
    try:
        data = context.dataset
        held_out_split = data.validation if len(data.validation) else data.test
        if len(held_out_split):
            posterior = encode(model, held_out_split.subset(slice(0, budget.components)))
            held_out = AggregatePosterior(posterior.mean, posterior.log_variance)
        else:
            notes.append("Held-out codes were not measured: there is no validation or test split.")
    except DpvaeError as error:
        notes.append(f"Held-out codes were not measured: {error}.")
    splits = null.draw_splits(
        context,
        held_out,
        splits=budget.splits,
        samples=budget.samples,
        components=budget.components,
    )
    return DiagnosisDraws(splits, 0 if held_out is None else len(held_out), notes)


def run_diagnosis(
    context: EvaluationContext,
    *,
    budget: DiagnosisBudget,
    compare: SampleMetric | None = None,
    earlier: Sequence[Result] = (),
    overfits_since: int | None = None,
) -> Diagnosis:
    """Diagnose the model of a context.

    `compare` says how decoded samples are compared with data; None takes it from `earlier`, results
    of this very model, where precision and its companions always come from. `overfits_since` is the
    iteration of the best validation ELBO, if it fell ever since.

    Raises:
        UsageError: there are too few examples.
    """
    model = context.model
    splits, held_out, notes = draw_halves(context, budget)
    mismatch, dimensions = null.marginals(splits, context.aggregate)
    quantities = (*null.shares(splits), *null.nats(splits), mismatch)
    half = len(splits.groups.codes) // 2
    largest_null = max(each.null for each in quantities if each.name.startswith("kl_"))
    if largest_null >= 1:
        notes.append(
            f"Two halves of {half:,} codes each in {model.latent_dim} dimensions are up to "
            f"{largest_null:.2g} nats apart: the codes are too few to fill the space, and the two "
            "KL divergences and the leakage score can show large mismatches only. Leaks, the "
            "marginals and the gain of a repair do not suffer from it."
        )
    seed = context.seed if budget.fit_seed is None else budget.fit_seed
    fits = list(candidates.try_priors(context, budget.tried, usual=budget.fitting, seed=seed))
    diagnosis = Diagnosis(
        prior=model.prior.spec.kind if model.prior.spec else type(model.prior).__name__,
        latent_dim=model.latent_dim,
        codes=len(context.aggregate),
        components=half,
        samples=budget.samples,
        splits=budget.splits,
        seed=context.seed,
        held_out=held_out,
        can_tell=null.can_detect_half_empty(splits, quantities),
        quantities=tuple(sorted(quantities, key=lambda each: NAMES.index(each.name))),
        dimensions=dimensions,
        low_posterior=measure_low_posterior(context, compare, earlier),
        repairs=tuple(fit for fit in fits if isinstance(fit, CandidatePrior)),
        notes=(*notes, *(fit for fit in fits if isinstance(fit, str))),
        overfits_since=overfits_since,
        support=tuple(each for each in earlier if sees(each.metric) and each.value is not None),
        arrays=_arrays(context, splits),
    )
    diagnosis.arrays.update(_images(context, splits, diagnosis.recommendation))
    return diagnosis


def _arrays(context: EvaluationContext, at: null.HalfSplits) -> dict[str, np.ndarray]:
    """Return both log-densities of both sides in one split, and with L = 2 the plane.

    `prior_log_q`, `codes_log_q`, `prior_log_p` and `codes_log_p` (n,), `tail_log_q` and
    `tail_log_p`, all in nats; `prior_z` and `codes_z` (m, 2), the map of log q(z) and log p(z).
    """
    a, b = at.halves[0]
    fresh = are_in(at.codes.group, a)
    codes_log_q = at.log_q(at.codes, b)[0][fresh]
    both = {
        "prior_log_q": at.log_q(at.prior, b)[0].numpy(),
        "codes_log_q": codes_log_q.numpy(),
        "prior_log_p": at.prior.log_p.numpy(),
        "codes_log_p": at.codes.log_p[fresh].numpy(),
        "tail_log_q": torch.quantile(codes_log_q, TAIL).numpy(),
        "tail_log_p": torch.quantile(at.prior.log_p, TAIL).numpy(),
    }
    if context.model.latent_dim != 2:
        return both
    prior_z = at.prior.z[:SHOWN].double().numpy()
    plane = density_map(at.groups.half(b), also=prior_z, model=context.model)
    return both | {"prior_z": prior_z, "codes_z": at.codes.z[fresh][:SHOWN].numpy()} | plane


def _images(
    context: EvaluationContext, at: null.HalfSplits, repair: CandidatePrior | None
) -> dict[str, np.ndarray]:
    """Return decoded samples (n, c, h, w) of an image model, in bytes; nothing of any other.

    `samples` of its prior, `lowest` the fifth of a pool with the lowest log q(z), `repaired` of the
    prior that is recommended.
    """
    if not is_image(context.model.example_shape):
        return {}
    _, b = at.halves[0]
    repaired = None if repair is None else repair.samples
    return decoded_samples(
        context.model,
        at.prior.z[: POOL * IMAGES],
        log_q=at.log_q(at.prior, b)[0][: POOL * IMAGES],
        repaired=None if repaired is None else torch.from_numpy(repaired),
    )


def measure_low_posterior(
    context: EvaluationContext, metric: SampleMetric | None, earlier: Sequence[Result]
) -> LowPosterior:
    """Measure random and low-posterior samples; without a metric take an earlier pair of results.

    A metric that fails gives the reason in place of results.
    """
    if metric is None:
        by_name = {result.metric: result for result in earlier if result.value is not None}
        for name, random in by_name.items():
            lowest = by_name.get(f"{name}_lp")
            if name.startswith("fid") and lowest is not None:
                return LowPosterior(random, lowest)
        if isinstance(context.model.decoder, NoDecoder):
            return LowPosterior(reason=f"not measured: {NO_DECODER}")
        hint = IMAGE_HINT if is_image(context.model.example_shape) else OTHER_HINT
        return LowPosterior(reason="not measured", hint=hint)
    try:
        [random], [lowest] = (METRICS[name].measure(context) for name in (metric, f"{metric}_lp"))
    except DpvaeError as error:
        return LowPosterior(reason=f"not measured: {error}", hint=error.hint or "")
    return LowPosterior(random, lowest)

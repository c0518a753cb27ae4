"""The recipe: one frozen object that says everything about a run."""

from collections.abc import Iterator
from operator import attrgetter
from typing import Annotated, Any, Literal, final, get_args

from pydantic import Field, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError

from dpvae_cli.architectures import AnyArchitecture
from dpvae_cli.data import AnyData
from dpvae_cli.foundation.devices import PrecisionName
from dpvae_cli.foundation.spec import FROM_LIST, DefaultFrom, FloatTuple, Spec
from dpvae_cli.likelihoods import AnyLikelihood
from dpvae_cli.priors import AnyPrior, Decoupled, LearnedPrior
from dpvae_cli.priors.base import PriorSpec
from dpvae_cli.regularizers import AnyRegularizer

Positive = Annotated[int, Field(ge=1)]
MAX_SAMPLES = 10_000_000
"""Draws and examples of one estimate; memory is asked for before that."""
MIN_BATCH_SIZE = 2
"""Examples; some regularizers compare the examples of a batch with each other."""
Share = Annotated[float, Field(gt=0, lt=1)]
CompileName = Literal["off", "auto", "on"]
TrackerName = Literal["tensorboard", "mlflow", "wandb"]


@final
class Training(Spec):
    """How long, how fast, how often: counts are iterations (optimizer steps)."""

    iterations: Positive = 100_000
    """Optimizer steps (paper: 100,000)."""
    batch_size: Annotated[int, Field(ge=MIN_BATCH_SIZE)] = 100
    """Examples in one step (paper: 100 on MNIST, 50 on SVHN and CelebA)."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """Adam's step size for the VAE and its prior (paper: 1e-4)."""
    gradient_clip: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of all gradients of a step, without the adversary's; null disables clipping."""
    precision: PrecisionName = "float32"
    """bf16 applies to encoder and decoder during training; float64 to everything."""
    compile: CompileName = "off"
    """torch.compile for training steps; auto compiles on a single GPU."""
    ema: Share | None = None
    """Decay of a moving average of the weights, used from validation on; null keeps none."""
    log_every: Positive = 100
    """Iterations between two lines of training terms in metrics.jsonl."""
    validate_every: Positive = 1_000
    """Iterations between two validations; the best one by ELBO is kept as best.pt."""
    checkpoint_every: Positive = 1_000
    """Iterations between two writes of checkpoint.pt."""
    tensorboard: bool = False
    """The same as `trackers: [tensorboard]`."""
    trackers: Annotated[tuple[TrackerName, ...], FROM_LIST] = ()
    """Experiment trackers that get the logged numbers, too (extras of the same names)."""

    @property
    def active_trackers(self) -> tuple[TrackerName, ...]:
        """Return each tracker once."""
        if self.tensorboard and "tensorboard" not in self.trackers:
            return (*self.trackers, "tensorboard")
        return tuple(dict.fromkeys(self.trackers))


@final
class Fitting(Spec):
    """How a prior is fitted to the codes of a trained VAE: `fit_prior`, and `dpvae fit-prior`.

    Example:
        >>> import dpvae_cli as dpvae
        >>> dpvae.Fitting(iterations=500).iterations
        500
    """

    iterations: Positive = 3_000
    """Optimizer steps at most, each on a fresh batch of draws of q(z); of EM for a mixture."""
    batch_size: Annotated[int, Field(ge=2, le=MAX_SAMPLES)] = 512
    """Draws of q(z) in one step."""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    """Initial step size of Adam; it decays to zero along a half cosine."""
    held_out: Share = 0.2
    """Fraction of codes held out: one half for selection, the other half for reporting."""
    validate_every: Positive = 100
    """Iterations between two validations on held-out codes; the best prior is kept."""
    patience: Positive = 10
    """Validations without improvement after which fitting stops early."""
    given: Literal["label"] | None = None
    """`label`: the prior is given the label of each example, if the data has labels; null: none."""


@final
class Evaluation(Spec):
    """Sample sizes of `dpvae eval` and `dpvae sample`; the paper's where it states any."""

    split: Literal["validation", "test"] = "test"
    """Held-out examples for nll."""
    samples: Annotated[int, Field(ge=10, le=MAX_SAMPLES)] = 5_000
    """Samples a side for skl, skl_knn and leakage (paper: 5,000)."""
    neighbours: Annotated[int, Field(ge=1, le=1_000)] = 1
    """k of the nearest-neighbour estimate skl_knn (released code: 1)."""
    nll_samples: Annotated[int, Field(ge=2, le=MAX_SAMPLES)] = 21_000
    """Importance samples for each example (paper: 21,000)."""
    nll_images: Annotated[int, Field(ge=1, le=MAX_SAMPLES)] = 256
    """Held-out examples that nll is averaged over, from the start of the split."""
    thresholds: FloatTuple = (-90.0, -70.0, -50.0, -30.0, -10.0, -5.0, -1.0)
    """log p(z) thresholds tau of the leakage score, in nats."""
    quantiles: Annotated[tuple[Share, ...], Field(strict=False, max_length=1_000)] = (
        0.001,
        0.01,
        0.05,
        0.25,
    )
    """Further thresholds: these quantiles of log p(z) under z ~ p."""
    manifold_samples: Annotated[int, Field(ge=10, le=MAX_SAMPLES)] = 5_000
    """Samples kept for manifold and manifold_lp."""
    fid_samples: Annotated[int, Field(ge=10, le=MAX_SAMPLES)] = 10_000
    """Decoded samples for fid, fid_lp and kid."""
    fid_images: Annotated[int, Field(ge=10, le=MAX_SAMPLES)] | None = None
    """Training images of the comparison, a fixed random subset; null: all."""
    support_samples: Annotated[int, Field(ge=10, le=MAX_SAMPLES)] = 5_000
    """Samples, and real examples, for precision, recall, density and coverage."""
    support_neighbours: Annotated[int, Field(ge=1, le=1_000)] = 5
    """k of the balls around nearest neighbours of these metrics."""
    pool: Annotated[int, Field(ge=2, le=1_000)] = 5
    """Size of the pool of low- and high-posterior samples, relative to their number."""
    factor_samples: Annotated[int, Field(ge=10)] = 5_000
    """Training examples per repeat of mig, dci, sap, factor_score and beta_score."""
    factor_repeats: Positive = 5
    """Repeats of these scores, whose spread is their error."""
    probe_samples: Annotated[int, Field(ge=10)] = 10_000
    """Random training examples for the classifiers of probe."""
    c2st_samples: Annotated[int, Field(ge=10, le=MAX_SAMPLES)] = 5_000
    """Samples of the prior, and codes, that c2st tells apart."""


@final
class Recipe(Spec):
    """Everything about a run: data, model, prior, regularizer, training, evaluation and seed.

    Example:
        >>> import dpvae_cli as dpvae
        >>> recipe = dpvae.load_recipe("beta_h_moons", ["training.iterations=500"])
        >>> recipe.prior.kind, recipe.training.iterations
        ('decoupled', 500)
    """

    data: AnyData
    architecture: AnyArchitecture
    likelihood: AnyLikelihood
    prior: AnyPrior = Decoupled()
    regularizer: AnyRegularizer
    training: Training = Training()
    fit_prior: LearnedPrior | None = None
    """A prior to fit to the codes after training, in place of the one trained with; null: none."""
    fitting: Fitting = Fitting()
    evaluation: Evaluation = Evaluation()
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of initial weights, data order and noise."""

    _name: str = PrivateAttr(default="recipe")

    @property
    def final_prior(self) -> PriorSpec:
        """Return the prior that the finished model has: `fit_prior`, or else `prior`."""
        return self.fit_prior or self.prior

    @property
    def prior_name(self) -> str:
        """Return the prior's kind, as in "standard_normal, then spline" where one is fitted."""
        return ", then ".join(prior.kind for prior in (self.prior, self.fit_prior) if prior)

    @property
    def run_name(self) -> str:
        """Return <recipe>-<prior>-seed<k>, with -fit_<prior> where one is fitted."""
        fitted = "" if self.fit_prior is None else f"-fit_{self.fit_prior.kind}"
        return f"{self.name}-{self.prior.kind}-seed{self.seed}{fitted}"

    @property
    def name(self) -> str:
        """Return the name it was loaded under; not part of the recipe itself."""
        return self._name

    def with_name(self, name: str) -> "Recipe":
        """Return the same recipe under another name."""
        renamed = self.model_copy()
        renamed._name = name
        return renamed

    @model_validator(mode="before")
    @classmethod
    def _expand_shorthand(cls, value: Any) -> Any:
        return expand_shorthand(value) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _sections_fit(self) -> "Recipe":
        kind, latent_dim = self.architecture.kind, self.architecture.latent_dim
        problems = {"prior": self.prior.validation_error(latent_dim)}
        if self.fit_prior is not None:
            problems["fit_prior"] = self.fit_prior.validation_error(latent_dim)
        if kind != "own" and getattr(self.likelihood, "probabilities", False):
            problem = f"probabilities is for a custom decoder; the decoder of {kind} outputs logits"
            problems["likelihood"] = problem
        for section, found in problems.items():
            if found is not None:
                where = {"problem": found, "section": section}
                raise PydanticCustomError("prior", "{problem}", where)
        return self

    @model_validator(mode="after")
    def _resolve_references(self) -> "Recipe":
        """Fill the fields whose default is another field of the recipe."""
        for section_name in SECTIONS_WITH_KIND:
            section = getattr(self, section_name)
            if section is None:
                continue
            found = {
                field: attrgetter(marker.path)(self)
                for field, info in type(section).model_fields.items()
                if getattr(section, field) is None and (marker := _marker(info.annotation))
            }
            if found:
                self.__dict__[section_name] = section.model_copy(update=found)
        return self


SECTIONS_WITH_KIND = ("data", "architecture", "likelihood", "prior", "regularizer", "fit_prior")


def expand_shorthand(values: dict[str, Any]) -> dict[str, Any]:
    """Read a bare word as `{kind: word}`."""
    return {
        key: {"kind": part} if key in SECTIONS_WITH_KIND and isinstance(part, str) else part
        for key, part in values.items()
    }


def _marker(annotation: Any) -> DefaultFrom | None:
    """Return the `DefaultFrom` inside a union such as `int | Annotated[None, DefaultFrom(...)]`."""
    for part in getattr(annotation, "__args__", ()):
        for extra in getattr(part, "__metadata__", ()):
            if isinstance(extra, DefaultFrom):
                return extra
    return None


def derived_fields() -> set[str]:
    """Return the keys, `section.field`, whose default is another field of the recipe."""
    return {
        f"{section}.{field}"
        for section in SECTIONS_WITH_KIND
        for spec in specs(section)
        for field, info in spec.model_fields.items()
        if _marker(info.annotation)
    }


def specs(section: str) -> tuple[type[Spec], ...]:
    """Return the classes of a section with kinds, in the order of its union."""
    return tuple(_leaves(Recipe.model_fields[section].annotation))


def _leaves(annotation: Any) -> Iterator[type[Spec]]:
    """Yield the classes inside unions and `Annotated`."""
    if isinstance(annotation, type):
        if issubclass(annotation, Spec):
            yield annotation
        return
    for part in get_args(annotation):
        yield from _leaves(part)

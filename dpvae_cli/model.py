"""The VAE: encoder, decoder, likelihood and prior, put together (paper, Figure 2)."""

from typing import Any, final

import torch
from torch import Tensor, nn

from dpvae_cli.data.dataset import Units
from dpvae_cli.foundation.devices import check_model_memory, eval_mode
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.randomness import fork_rng
from dpvae_cli.foundation.shapes import Codes, Examples, PerExample
from dpvae_cli.likelihoods import BernoulliLikelihood, Likelihood, LikelihoodSpec
from dpvae_cli.mathematics.gaussian import DiagonalGaussian, mean_and_log_variance
from dpvae_cli.priors.base import Prior, PriorSpec
from dpvae_cli.recipe import Recipe
from dpvae_cli.recipe.validation import spec_by_name

PROBE_BATCH_SIZE = 16
"""Examples of the training data that a model is tried on before it is used with it."""
FAR_CODE_SCALE = 1e4
"""Deviation of codes that lie far from all that a decoder was made for."""
CONTRACT = (
    "An encoder returns a pair (mean, log_variance) of tensors, (batch, latent) each, or a "
    "dpvae.DiagonalGaussian of them; a decoder takes (batch, latent) and returns the parameters "
    "of p(x|z), shaped as the examples."
)


@final
class VAE(nn.Module):
    """A variational autoencoder whose prior is an object of its own.

    With the standard normal prior it is a plain VAE, with the decoupled prior a dpVAE; nothing
    else changes. Encoder and decoder may be any modules that keep to what is said here.

    Args:
        encoder: maps examples to q(z|x): a pair (mean, log_variance) of tensors, (batch, latent)
            each, or a `DiagonalGaussian` of them.
        decoder: maps codes, (batch, latent), to the parameters of p(x|z), shaped as the examples.
        likelihood: p(x|z) as a function of the decoder's output: a likelihood, its spec such as
            `dpvae.Gaussian(scale=0.1)`, or its word in a recipe.
        prior: p(z): a prior, its spec such as `dpvae.Decoupled()`, or its word in a recipe.
        latent_dim: L; needed where the prior is a spec or a word, a prior knows it.
        example_shape: shape of one example; None waits for `check`, which `dpvae.train` and
            `dpvae.evaluate` call.

    `units` tells what the numbers of its examples are in the units of the training data; training
    and loading set it. Whatever the model takes and returns itself is in numbers as it sees them.

    Raises:
        UsageError: a word is unknown, or `latent_dim` is missing or contradicts the prior.

    Example:
        >>> import dpvae_cli as dpvae
        >>> model = dpvae.build(dpvae.load_recipe("vae_moons"))
        >>> model.sample(4).shape
        torch.Size([4, 2])
    """

    def __init__(
        self,
        *,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood | LikelihoodSpec | str,
        prior: Prior | PriorSpec | str,
        latent_dim: int | None = None,
        example_shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        spec: Likelihood | LikelihoodSpec
        spec = spec_by_name("likelihood", likelihood) if isinstance(likelihood, str) else likelihood
        self.likelihood = spec if isinstance(spec, Likelihood) else spec.build()
        self.prior = _resolve_prior(prior, latent_dim, encoder, example_shape)
        self.latent_dim = self.prior.latent_dim
        self._example_shape = example_shape
        self.units = Units()

    @property
    def device(self) -> torch.device:
        """Return the device the parameters are on."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Return the type of the parameters, which examples and codes must have too."""
        return next(self.parameters()).dtype

    @property
    def example_shape(self) -> tuple[int, ...]:
        """Return the shape of one example.

        Raises:
            UsageError: it was not given, and no batch was seen by `check`.
        """
        if self._example_shape is None:
            raise UsageError(
                "the shape of an example is not known yet",
                hint="Give example_shape=... to dpvae.VAE, or a batch to model.check(x).",
            )
        return self._example_shape

    def with_prior(self, prior: Prior) -> "VAE":
        """Return the same encoder, decoder and likelihood under another prior; they are shared.

        Raises:
            UsageError: the prior is of another number of dimensions.
        """
        model = VAE(
            encoder=self.encoder,
            decoder=self.decoder,
            likelihood=self.likelihood,
            prior=prior,
            latent_dim=self.latent_dim,
            example_shape=self._example_shape,
        )
        model.units = self.units
        return model

    def encode(self, x: Examples) -> DiagonalGaussian:
        """Return q(z|x): `mean`, `log_variance`, `log_prob(z)`, `sample()`."""
        posterior = self.encoder(x)
        if isinstance(posterior, DiagonalGaussian):
            return posterior
        return DiagonalGaussian(*_mean_and_log_variance(posterior))

    def decode(self, z: Codes) -> Examples:
        """Return E[x|z], the mean of p(x|z)."""
        return self.likelihood.mean(self.decoder(z))

    def reconstruction(self, x: Examples, z: Codes) -> PerExample:
        """Return -log p(x|z) of each example in nats, constants included."""
        return -self.likelihood.log_prob(x, self.decoder(z))

    @torch.no_grad()
    def sample(
        self, n: int, *, noise: bool = False, generator: torch.Generator | None = None
    ) -> Examples:
        """Return decoded prior samples: z0 ~ N(0, I), z = g^-1(z0), E[x|z] or with `noise` a draw.

        Args:
            n: how many.
            noise: draw x ~ p(x|z).
            generator: of all draws.
        """
        z = self.prior.sample(n, generator=generator)
        if noise:
            return self.likelihood.sample(self.decoder(z), generator=generator)
        return self.decode(z)

    @torch.no_grad()
    def check(self, x: Examples) -> None:
        """Refuse networks that do not fit a batch of examples; from then on its shape is known.

        Nothing else changes: the modules work in evaluation mode, get their modes back, and draw
        nothing from the generators outside.

        Raises:
            UsageError: says which output is wrong, what it is and what was expected.
        """
        shape = tuple(x.shape[1:])
        if self._example_shape not in (None, shape):
            raise UsageError(
                f"the model is for examples of shape {self._example_shape}, these have {shape}"
            )
        accelerators = [x.device] if x.device.type == "cuda" else []
        with eval_mode(self), torch.random.fork_rng(devices=accelerators):
            mean, log_variance = _mean_and_log_variance(_call_network("encoder", self.encoder, x))
            codes = (x.shape[0], self.latent_dim)
            _check_output("the encoder's mean", mean, codes, x)
            _check_output("the encoder's log_variance", log_variance, codes, x)
            output = _call_network("decoder", self.decoder, mean)
            if not isinstance(output, Tensor):
                raise _contract_error(
                    f"the decoder returned {_describe(output)}, expected a tensor"
                )
            _check_output("the decoder's output", output, tuple(x.shape), x)
            if isinstance(self.likelihood, BernoulliLikelihood):
                _check_bernoulli(self.likelihood, self.decoder, mean, output)
        self._example_shape = shape


def _resolve_prior(
    given: Prior | PriorSpec | str,
    latent_dim: int | None,
    encoder: nn.Module,
    example_shape: tuple[int, ...] | None,
) -> Prior:
    """Return the prior that a word or a spec stands for, or the one given."""
    if isinstance(given, Prior):
        if latent_dim not in (None, given.latent_dim):
            raise UsageError(
                f"latent_dim={latent_dim}, but the prior has {given.latent_dim} dimensions"
            )
        return given
    spec: PriorSpec = spec_by_name("prior", given) if isinstance(given, str) else given
    if latent_dim is None:
        raise UsageError(
            "the prior has to be built and the number of latent dimensions is not known",
            hint=f"Add latent_dim=L, or build it: prior=dpvae.{type(spec).__name__}(...).build(L).",
        )
    if complaint := spec.validation_error(latent_dim):
        raise UsageError(f"prior: {complaint}")
    return spec.build(latent_dim, encoder, example_shape)


def _mean_and_log_variance(posterior: object) -> tuple[Tensor, Tensor]:
    """Return mean and log-variance of what an encoder wrote."""
    try:
        return mean_and_log_variance(posterior)
    except TypeError:
        raise _contract_error(
            f"the encoder returned {_describe(posterior)}, expected a pair (mean, log_variance) "
            "of tensors or a dpvae.DiagonalGaussian"
        ) from None


def _call_network(name: str, network: nn.Module, given: Tensor) -> Any:
    """Return what a network writes; its own complaints are told with what it was given."""
    try:
        return network(given)
    except (RuntimeError, ValueError, IndexError) as error:
        raise _contract_error(f"the {name} fails on {_describe(given)}: {error}") from error


def _check_output(what: str, value: Tensor, expected: tuple[int, ...], x: Tensor) -> None:
    """Refuse a tensor of another shape than expected, or with values that are not finite."""
    if tuple(value.shape) != expected:
        raise _contract_error(
            f"{what} has shape {tuple(value.shape)}, expected {expected} "
            f"for a batch of shape {tuple(x.shape)}"
        )
    if not bool(torch.isfinite(value).all()):
        raise _contract_error(
            f"{what} has values that are not finite, for a batch with values from "
            f"{float(x.min()):g} to {float(x.max()):g}"
        )


def _check_bernoulli(
    likelihood: BernoulliLikelihood, decoder: nn.Module, z: Tensor, output: Tensor
) -> None:
    """Refuse what cannot be a probability, or looks like one where nothing says what it is.

    Logits may all lie in [0, 1] by chance, but hardly those of codes from far away too.
    """
    if likelihood.probabilities and not _is_in_unit_interval(output):
        raise UsageError(
            f"the decoder's output has values from {float(output.min()):g} to "
            f"{float(output.max()):g}, and likelihood bernoulli was told of probabilities",
            hint="Let the decoder end with a sigmoid, or leave out probabilities=True.",
        )
    is_unsaid = likelihood.probabilities is None
    if not (is_unsaid and _is_in_unit_interval(output) and bool(output.any())):
        return
    far = FAR_CODE_SCALE * torch.randn(z.shape, generator=torch.Generator().manual_seed(0)).to(z)
    if _is_in_unit_interval(decoder(far)):
        raise UsageError(
            "the decoder's output always lies in [0, 1], as probabilities do, and likelihood "
            "bernoulli takes logits: it would apply a second sigmoid",
            hint="Leave out the decoder's last sigmoid, or say that there is one: likelihood="
            "dpvae.Bernoulli(probabilities=True); False says that these are logits all the same.",
        )


def _is_in_unit_interval(values: Tensor) -> bool:
    return bool(((values >= 0) & (values <= 1)).all())


def _describe(value: object) -> str:
    """Return the type of an output, and the shapes of tensors."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} ({value.dtype})"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}: {', '.join(map(_describe, value))}"
    return f"a {type(value).__name__}"


def _contract_error(message: str) -> UsageError:
    return UsageError(message, hint=CONTRACT)


def build(
    recipe: Recipe,
    *,
    example_shape: tuple[int, ...] | None = None,
    networks: tuple[nn.Module, nn.Module] | None = None,
    check_memory: bool = True,
) -> VAE:
    """Return the untrained model of a recipe; its weights follow from its seed.

    Encoder and decoder are drawn before the prior, so a decoupled model and its standard normal
    twin start from the same ones.

    Args:
        recipe: what to build.
        example_shape: shape of one example; None asks the recipe's data.
        networks: encoder and decoder to take in place of the architecture's.
        check_memory: check first that the weights fit into memory.

    Raises:
        UsageError: the architecture does not fit the data, or the model not into memory.

    Example:
        >>> import dpvae_cli as dpvae
        >>> model = dpvae.build(dpvae.load_recipe("beta_h_moons"))
        >>> sum(parameter.numel() for parameter in model.prior.parameters()) > 0
        True
    """
    shape = recipe.data.example_shape() if example_shape is None else example_shape

    def parts() -> tuple[nn.Module, ...]:
        encoder, decoder = recipe.architecture.build(shape)
        return encoder, decoder, recipe.prior.build(recipe.architecture.latent_dim, encoder, shape)

    if networks is None and check_memory:
        check_model_memory("the model of sections architecture and prior", parts)
    with fork_rng(recipe.seed, "weights"):
        encoder, decoder = networks or recipe.architecture.build(shape)
        return VAE(
            encoder=encoder,
            decoder=decoder,
            likelihood=recipe.likelihood,
            prior=recipe.prior,
            latent_dim=recipe.architecture.latent_dim,
            example_shape=shape,
        )

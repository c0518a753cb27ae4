"""Small models and recipes that tests share."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dpvae_cli.architectures import Encoder
from dpvae_cli.data import Dataset, Split
from dpvae_cli.likelihoods import GaussianLikelihood
from dpvae_cli.model import VAE
from dpvae_cli.priors import Prior, StandardNormalPrior
from dpvae_cli.recipe import Recipe, load_recipe
from dpvae_cli.recipe.validation import kinds
from tests.cases import small_section

SMALL = (
    "data.train=120",
    "data.validation=40",
    "data.test=40",
    "architecture.hidden=[8]",
    "training.batch_size=16",
    "training.iterations=20",
    "training.log_every=5",
    "training.validate_every=10",
    "training.checkpoint_every=5",
    "evaluation.samples=50",
    "evaluation.nll_samples=20",
    "evaluation.nll_images=4",
    "evaluation.manifold_samples=20",
    "evaluation.fid_samples=20",
    "evaluation.factor_samples=40",
    "evaluation.factor_repeats=2",
)
REGULARIZERS = tuple(kinds("regularizer"))
PRIORS = ("standard_normal", "decoupled")
OTHER_PRIORS = (
    "{kind: decoupled, base: student_t}",
    "{kind: decoupled, base: mixture}",
    *(small_section("prior", kind) for kind in kinds("prior") if kind not in PRIORS),
)
"""The rest of what a recipe can say, small."""


def small_recipe(regularizer: str = "vae", *overrides: str) -> Recipe:
    """Return a packaged moons recipe shrunk to a fraction of a second."""
    extra = ["regularizer.width=8"] if regularizer == "factor" else []
    return load_recipe(f"{regularizer}_moons", [*SMALL, *extra, *overrides])


class Constant(nn.Module):
    """A network that writes the same row whatever it reads."""

    def __init__(self, row: Tensor) -> None:
        super().__init__()
        self.row = nn.Parameter(row)

    def forward(self, x: Tensor) -> Tensor:
        return self.row.expand(x.shape[0], -1)


class PairEncoder(nn.Module):
    """An encoder of somebody's own: returns (mean, log_variance), and drops out in training."""

    def __init__(self, latent_dim: int = 2, data_dim: int = 2, *, width: int = 8) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(data_dim, width), nn.Tanh(), nn.Dropout(0.2))
        self.mean = nn.Linear(width, latent_dim)
        self.log_variance = nn.Linear(width, latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(x)
        return self.mean(hidden), self.log_variance(hidden)


def own_networks(
    latent_dim: int = 2, data_dim: int = 2, *, width: int = 8, seed: int = 0
) -> dict[str, nn.Module]:
    """Return an encoder and a decoder of somebody's own, by name."""
    torch.manual_seed(seed)
    encoder = PairEncoder(latent_dim, data_dim, width=width)
    layers = (nn.Linear(latent_dim, width), nn.BatchNorm1d(width), nn.ReLU())
    return {"encoder": encoder, "decoder": nn.Sequential(*layers, nn.Linear(width, data_dim))}


def own_vae(
    latent_dim: int = 2, data_dim: int = 2, *, width: int = 8, seed: int = 0, **parts: Any
) -> VAE:
    """Return a model of somebody's own networks; `parts` say what else `VAE` shall take."""
    networks = own_networks(latent_dim, data_dim, width=width, seed=seed)
    other = {"likelihood": "gaussian", "prior": "decoupled", "latent_dim": latent_dim}
    return VAE(**(networks | other | parts))  # type: ignore[arg-type]


def linear_gaussian_vae(latent_dim: int, data_dim: int, *, scale: float, seed: int = 0) -> VAE:
    """Return a float64 VAE with marginal N(b, W W^T + scale^2 I) and a random linear encoder."""
    torch.manual_seed(seed)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(data_dim, 2 * latent_dim))
    decoder = nn.Linear(latent_dim, data_dim)
    return VAE(
        encoder=Encoder(encoder),
        decoder=decoder,
        likelihood=GaussianLikelihood(scale, learned=False, floor=1e-3),
        prior=StandardNormalPrior(latent_dim),
        latent_dim=latent_dim,
        example_shape=(data_dim,),
    ).double()


def gaussian_posterior_vae(mean: Tensor, log_variance: Tensor, prior: Prior) -> VAE:
    """Return a VAE whose aggregate posterior is one Gaussian, whatever the data."""
    latent_dim = len(mean)
    return VAE(
        encoder=Encoder(Constant(torch.cat([mean, log_variance]))),
        decoder=nn.Linear(latent_dim, 2),
        likelihood=GaussianLikelihood(1.0, learned=False, floor=1e-3),
        prior=prior,
        latent_dim=latent_dim,
        example_shape=(2,),
    )


def random_dataset(data_dim: int, count: int = 30) -> Dataset:
    """Return normal noise as a data set of three equal splits."""
    generator = torch.Generator().manual_seed(0)
    split = Split(torch.randn(count, data_dim, generator=generator))
    return Dataset("noise", train=split, validation=split, test=split)


def random_images(*shape: int, count: int = 30) -> Dataset:
    """Return 8-bit noise of `shape` (channels, height, width) as three equal splits."""
    generator = torch.Generator().manual_seed(0)
    split = Split(torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8))
    return Dataset("noise", train=split, validation=split, test=split, eight_bit=True)


def image_vae(*shape: int, seed: int = 0) -> VAE:
    """Return an untrained VAE of images of `shape` whose decoded means lie in [0, 1] or not."""
    torch.manual_seed(seed)
    values = int(torch.tensor(shape).prod())
    return VAE(
        encoder=Encoder(nn.Sequential(nn.Flatten(), nn.Linear(values, 4))),
        decoder=nn.Sequential(nn.Linear(2, values), nn.Unflatten(1, shape)),
        likelihood=GaussianLikelihood(1.0, learned=False, floor=1e-3),
        prior=StandardNormalPrior(2),
        latent_dim=2,
        example_shape=shape,
    )


def tiny_extractor(path: Path) -> Path:
    """Write a TorchScript feature extractor, means over 2x2 parts of each channel, to `path`."""
    return scripted(nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()), path)


def scripted(network: nn.Module, path: Path) -> Path:
    """Write a network as TorchScript, which torch only warns of by now."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit")
        torch.jit.save(torch.jit.script(network), path)
    return path

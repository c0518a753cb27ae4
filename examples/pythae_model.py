"""Repair a Pythae beta-VAE: fit a prior to its codes, then sample from that.

  pip install tqdm cloudpickle && pip install --no-deps pythae
  python examples/pythae_model.py
  python examples/pythae_model.py --data mnist --fid 768 --out repaired_mnist

Model, loss and trainer are Pythae's. So are the networks, but for moons: the decoder that Pythae
makes by itself ends in a sigmoid, and moons lie outside the unit square.
"""

from argparse import Namespace
from math import ceil

import torch
from before_after import AS_TRAINED, load, parse_args, repair, report
from pythae.data.datasets import BaseDataset
from pythae.models import BetaVAE, BetaVAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import Tensor, nn

import dpvae_cli as dpvae

BATCH = 256
LATENT_DIM = {"moons": 2, "mnist": 8}
BETA = {"moons": 0.008, "mnist": 0.5}
"""Pythae's squared error has unit variance: beta 0.008 is beta 4 at a scale of 0.045."""


class MoonsEncoder(BaseEncoder):
    """Return Pythae's output record of mean and log-variance."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(2, 128), nn.ReLU(), nn.Linear(128, 4))

    def forward(self, x: Tensor) -> ModelOutput:
        mean, log_variance = self.network(x).chunk(2, dim=1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class MoonsDecoder(BaseDecoder):
    """Return Pythae's output record of a reconstruction."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(2, 128), nn.ReLU(), nn.Linear(128, 2))

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.network(z))


def trained(x: Tensor, args: Namespace) -> BetaVAE:
    """Return Pythae's beta-VAE after Pythae's training."""
    torch.manual_seed(args.seed)
    own = [MoonsEncoder(), MoonsDecoder()] if args.data == "moons" else []
    config = BetaVAEConfig(
        input_dim=tuple(x.shape[1:]),
        latent_dim=LATENT_DIM[args.data],
        beta=args.beta or BETA[args.data],
    )
    settings = BaseTrainerConfig(
        output_dir=str(args.out / "pythae"),
        num_epochs=ceil(args.iterations * BATCH / len(x)),
        per_device_train_batch_size=BATCH,
        learning_rate=1e-3,
        seed=args.seed,
        no_cuda=True,
    )
    model = BetaVAE(config, *own)
    BaseTrainer(model, BaseDataset(x, torch.zeros(len(x))), training_config=settings).train()
    return model.eval()


class Encoder(nn.Module):
    """Unpack Pythae's output into the pair that dpvae expects: mean and log-variance."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found = self.encoder(x)
        return found.embedding, found.log_covariance


class Decoder(nn.Module):
    """Unpack Pythae's output into the means that dpvae expects."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, z: Tensor) -> Tensor:
        return self.decoder(z).reconstruction


def main() -> None:
    """Train, fit, sample and compare."""
    args = parse_args(__doc__)
    data = load(args)
    x = data.train.examples()
    model = trained(x, args)

    with torch.no_grad():
        codes = model.encoder(x)
    before = dpvae.VAE(
        encoder=Encoder(model.encoder),
        decoder=Decoder(model.decoder),
        likelihood=dpvae.Gaussian(scale=1.0),
        prior=AS_TRAINED,
        latent_dim=model.latent_dim,
    )
    report(repair(before, codes.embedding, codes.log_covariance, args), data, args)


if __name__ == "__main__":
    main()

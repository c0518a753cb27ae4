"""Repair a Hugging Face AutoencoderKL: fit a prior to its spatial latents, then sample from that.

  pip install diffusers
  python examples/diffusers_autoencoder.py
  python examples/diffusers_autoencoder.py --data mnist --fid 768 --out repaired_mnist

A latent diffusion model trains its second stage for days. For a small autoencoder a fitted prior
does the same in a minute: it takes the latents, flattened to rows.
"""

import torch
from before_after import AS_TRAINED, load, parse_args, repair, report
from diffusers import AutoencoderKL
from torch import Tensor, nn

import dpvae_cli as dpvae

BATCH = 128
CHANNELS, DOWNSAMPLING = 2, 4
SCALE = 0.15
"""Standard deviation of x around the decoder's output."""


def autoencoder() -> AutoencoderKL:
    """Return a small AutoencoderKL for grey images; two of its three blocks halve the image."""
    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 16, 32),
        latent_channels=CHANNELS,
        norm_num_groups=8,
        mid_block_add_attention=False,
    )


def train(model: AutoencoderKL, x: Tensor, *, beta: float, iterations: int) -> None:
    """Minimise squared error over 2 scale^2, plus beta times the KL to the standard normal."""
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(iterations):
        batch = x[torch.randint(len(x), (BATCH,))]
        posterior = model.encode(batch).latent_dist
        error = (batch - model.decode(posterior.sample()).sample).square().sum() / (2 * SCALE**2)
        optimizer.zero_grad()
        ((error + beta * posterior.kl().sum()) / BATCH).backward()
        optimizer.step()


class Encoder(nn.Module):
    """Flatten spatial latents into the pair that dpvae expects: mean and log-variance."""

    def __init__(self, model: AutoencoderKL) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        posterior = self.model.encode(x).latent_dist
        return posterior.mean.flatten(1), posterior.logvar.flatten(1)


class Decoder(nn.Module):
    """Give rows of numbers the shape of the latents and decode them to means of x."""

    def __init__(self, model: AutoencoderKL, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.model, self.shape = model, shape

    def forward(self, z: Tensor) -> Tensor:
        x: Tensor = self.model.decode(z.unflatten(1, self.shape)).sample
        return x


def main() -> None:
    """Train, fit, sample and compare."""
    args = parse_args(__doc__, data=("digits", "mnist"))
    data = load(args)
    x = data.train.examples()
    torch.manual_seed(args.seed)
    model = autoencoder()
    train(model, x, beta=args.beta or 1.0, iterations=args.iterations)
    model.eval()

    shape = (CHANNELS, *(side // DOWNSAMPLING for side in data.example_shape[1:]))
    before = dpvae.VAE(
        encoder=Encoder(model),
        decoder=Decoder(model, shape),
        likelihood=dpvae.Gaussian(scale=SCALE),
        prior=AS_TRAINED,
        latent_dim=CHANNELS * shape[1] * shape[2],
    )
    with torch.no_grad():
        parts = [before.encoder(batch) for batch in x.split(1_000)]
    mean, log_variance = (torch.cat(each) for each in zip(*parts, strict=True))
    report(repair(before, mean, log_variance, args, count=64), data, args)


if __name__ == "__main__":
    main()

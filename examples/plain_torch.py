"""Repair a VAE written in plain PyTorch: fit a prior to its codes, then sample from that.

  python examples/plain_torch.py
  python examples/plain_torch.py --data mnist --fid 768 --out repaired_mnist

Networks, loss and loop are the user's own. dpvae sees the codes of the training set and, to measure
and to draw, the two networks.
"""

import subprocess
import sys
from argparse import Namespace
from math import prod

import numpy as np
import torch
from before_after import AS_TRAINED, load, parse_args, repair, report
from torch import Tensor, nn

import dpvae_cli as dpvae

LATENT_DIM = {"moons": 2, "mnist": 8}
BATCH, WIDTH = 256, 256
SCALE = {"moons": 0.045, "mnist": 0.2}
"""Standard deviation of x around the decoder's output."""


class Encoder(nn.Module):
    """Map examples to mean and log-variance of q(z|x), the pair that dpvae expects."""

    def __init__(self, size: int, latent_dim: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(size, WIDTH), nn.ReLU())
        self.mean, self.log_variance = nn.Linear(WIDTH, latent_dim), nn.Linear(WIDTH, latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(x)
        return self.mean(hidden), self.log_variance(hidden)


def networks(shape: tuple[int, ...], latent_dim: int) -> tuple[nn.Module, nn.Module]:
    """Return encoder and decoder; a decoder maps codes to means of x."""
    decoder = nn.Sequential(
        nn.Linear(latent_dim, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, prod(shape)),
        nn.Unflatten(1, shape),
    )
    return Encoder(prod(shape), latent_dim), decoder


def train(
    encoder: nn.Module, decoder: nn.Module, x: Tensor, *, scale: float, beta: float, iterations: int
) -> None:
    """Minimise squared error over 2 scale^2, plus beta times the KL to the standard normal."""
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
    for _ in range(iterations):
        batch = x[torch.randint(len(x), (BATCH,))]
        mean, log_variance = encoder(batch)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        error = (batch - decoder(z)).square().sum() / (2 * scale**2)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        optimizer.zero_grad()
        ((error + beta * kl) / BATCH).backward()
        optimizer.step()


def through_files(mean: Tensor, log_variance: Tensor, args: Namespace) -> Tensor:
    """Return samples of a prior fitted on the command line, exchanging only arrays."""
    np.savez(args.out / "codes.npz", mean=mean.numpy(), log_variance=log_variance.numpy())
    fit = f"fit-prior --codes codes.npz --prior {args.priors[-1]} --out prior.pt --overwrite"
    draw = "sample prior.pt -n 1000 --out z.npz"
    for words in (f"{fit} fitting.iterations={args.fit}", draw):
        command = [sys.executable, "-m", "dpvae_cli", *words.split()]
        subprocess.run(command, cwd=args.out, check=True)
    return torch.from_numpy(np.load(args.out / "z.npz")["z"])


def main() -> None:
    """Train, fit, sample and compare."""
    args = parse_args(__doc__)
    data, latent_dim, scale = load(args), LATENT_DIM[args.data], SCALE[args.data]
    x = data.train.examples()
    torch.manual_seed(args.seed)
    encoder, decoder = networks(data.example_shape, latent_dim)
    beta = args.beta or 1.0
    train(encoder, decoder, x, scale=scale, beta=beta, iterations=args.iterations)

    with torch.no_grad():
        mean, log_variance = encoder(x)
    before = dpvae.VAE(
        encoder=encoder,
        decoder=decoder,
        likelihood=dpvae.Gaussian(scale=scale),
        prior=AS_TRAINED,
        latent_dim=latent_dim,
    )
    report(repair(before, mean, log_variance, args), data, args)

    with torch.no_grad():
        samples = decoder(through_files(mean, log_variance, args))
    np.save(args.out / "samples_through_files.npy", samples.numpy())


if __name__ == "__main__":
    main()

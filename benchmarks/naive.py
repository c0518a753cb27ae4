"""Affine coupling in its usual form: two `nn.Sequential` per block, called one after the other."""

import torch
from torch import Tensor, nn

from dpvae_cli.mathematics.coupling import AffineCoupling


class NaiveBlock(nn.Module):
    """Equation (3) as printed."""

    def __init__(self, mask: Tensor, *, hidden: int, slope: float) -> None:
        super().__init__()
        self.register_buffer("mask", mask)
        self.scale_net = _network(len(mask), hidden, slope)
        self.translate_net = _network(len(mask), hidden, slope)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        held, scale, translate = self._parts(z)
        return held + (1 - self.mask) * (z * torch.exp(scale) + translate), scale.sum(dim=1)

    def inverse(self, z0: Tensor) -> tuple[Tensor, Tensor]:
        held, scale, translate = self._parts(z0)
        return held + (1 - self.mask) * (z0 - translate) * torch.exp(-scale), -scale.sum(dim=1)

    def _parts(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        held = self.mask * z
        scale = (1 - self.mask) * self.scale_net(held)
        return held, scale, (1 - self.mask) * self.translate_net(held)


class NaiveCoupling(nn.Module):
    """The function of an `AffineCoupling` with bounds of one, with copies of its weights.

    Masks are an attribute, as of the original, so that a prior can use it in its place.
    """

    def __init__(self, original: AffineCoupling) -> None:
        super().__init__()
        self.register_buffer("masks", original.masks.clone())
        hidden = original.weights[1].shape[-1]
        self.blocks = nn.ModuleList(
            NaiveBlock(mask, hidden=hidden, slope=original.negative_slope)
            for mask in self.masks.unbind()
        )
        self.to(original.masks)  # its device and type, before any weight is rounded
        for k, block in enumerate(self.blocks):
            for which, network in enumerate((block.scale_net, block.translate_net)):
                _copy(original, k, which, network)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return _through([block.forward for block in reversed(self.blocks)], z)

    def inverse(self, z0: Tensor) -> tuple[Tensor, Tensor]:
        return _through([block.inverse for block in self.blocks], z0)


def _through(steps, z):
    log_abs_det = torch.zeros(len(z), dtype=z.dtype, device=z.device)
    for step in steps:
        z, added = step(z)
        log_abs_det = log_abs_det + added
    return z, log_abs_det


def _network(latent_dim: int, hidden: int, slope: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(latent_dim, hidden),
        nn.LeakyReLU(slope),
        nn.Linear(hidden, hidden),
        nn.LeakyReLU(slope),
        nn.Linear(hidden, latent_dim),
        nn.Tanh(),
    )


@torch.no_grad()
def _copy(original: AffineCoupling, block: int, which: int, network: nn.Sequential) -> None:
    """Copy the weights of a block's scale (0) or translation (1) net."""
    layers = [layer for layer in network if isinstance(layer, nn.Linear)]
    for layer, weight, bias in zip(layers, original.weights, original.biases, strict=True):
        layer.weight.copy_(weight[block, which].T)
        layer.bias.copy_(bias[block, which, 0])

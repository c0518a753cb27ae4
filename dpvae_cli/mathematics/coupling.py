"""Affine coupling: the invertible network g between z and z0 (paper, section 3.2).

Block k, with z_K = z and z_{k-1} the output of block k:

    z_{k-1} = b_k * z_k + (1 - b_k) * (z_k * exp(s_k(b_k * z_k)) + t_k(b_k * z_k))       (3)
    log|det d z_{k-1} / d z_k| = sum over l of (1 - b_kl) s_k(b_k * z_k)_l

The paper prints b_kl for (1 - b_kl) in (5) and (22)-(24); autograd's Jacobian agrees with the form
here (`tests/mathematics/test_coupling.py`).
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.mathematics.masks import Mask


@final
class AffineCoupling(nn.Module):
    """g = g^(1) o ... o g^(K): a stack of K affine coupling blocks.

    The scale and the translation net of a block (L - hidden - hidden - L, leaky ReLU) run as one
    batched network: their weights are the two slices of one tensor, and all blocks share one
    tensor per layer, so an optimizer sees six tensors whatever K is.

    Source: paper, equations (3), (4) and Figure 9; K, widths, activation and the tanh bounds are
    the released code's, for the text names none.

    Args:
        masks: K masks of length L; 1 conditions, 0 is transformed.
        hidden: width of the two hidden layers.
        scale_bound: s = scale_bound * tanh(raw); None leaves s unbounded.
        translate_bound: the same for t.
        negative_slope: of the leaky ReLU.

    Example:
        >>> import torch
        >>> from dpvae_cli.mathematics.masks import halves
        >>> g = AffineCoupling(halves(blocks=6, latent_dim=2))
        >>> z0, log_abs_det = g.forward(torch.randn(5, 2))
        >>> z, minus_log_abs_det = g.inverse(z0)
    """

    masks: Tensor
    _limits: Tensor
    _is_bounded: Tensor

    def __init__(
        self,
        masks: Sequence[Mask],
        *,
        hidden: int = 64,
        scale_bound: float | None = 1.0,
        translate_bound: float | None = 1.0,
        negative_slope: float = 0.01,
    ) -> None:
        super().__init__()
        blocks, latent_dim = len(masks), len(masks[0])
        self.negative_slope = negative_slope
        bounds = (scale_bound, translate_bound)
        self._all_bounded = None not in bounds
        limits = torch.tensor([1.0 if bound is None else bound for bound in bounds])
        is_bounded = torch.tensor([bound is not None for bound in bounds])
        self.register_buffer("_limits", limits.view(2, 1), persistent=False)
        self.register_buffer("_is_bounded", is_bounded.view(2, 1, 1), persistent=False)
        self.register_buffer("masks", torch.tensor(masks, dtype=torch.get_default_dtype()))
        widths = [latent_dim, hidden, hidden, latent_dim]
        layers = list(pairwise(widths))
        self.weights = nn.ParameterList(_uniform(blocks, 2, i, o, fan_in=i) for i, o in layers)
        self.biases = nn.ParameterList(_uniform(blocks, 2, 1, o, fan_in=i) for i, o in layers)

    def forward(self, z: Codes) -> tuple[Codes, PerExample]:
        """Return z0 = g(z) and log|det dz0/dz| in nats, `(batch,)`."""
        scales = []
        for block in reversed(self._blocks()):
            scale, translate = self._networks(z, block)
            z = torch.addcmul(translate, z, torch.exp(scale))
            scales.append(scale)
        return z, torch.stack(scales).sum(dim=(0, 2))

    def inverse(self, z0: Codes) -> tuple[Codes, PerExample]:
        """Return z = g^-1(z0) and log|det dz/dz0| in nats, `(batch,)`; exact, no iteration."""
        z, scales = z0, []
        for block in self._blocks():
            scale, translate = self._networks(z, block)
            z = (z - translate) * torch.exp(-scale)
            scales.append(scale)
        return z, -torch.stack(scales).sum(dim=(0, 2))

    def _blocks(self) -> list[tuple[Tensor, ...]]:
        """Return what blocks 1 to K compute with: limits, then weights and biases by layer.

        Masks are applied to weights and limits, once for all blocks, and not to z block by block:
        rows of the first layer for transformed dimensions are zero, and so are the limits of s
        and t for conditioning ones.
        """
        first, *others = self.weights
        limits = self._limits.unsqueeze(-1) * (1 - self.masks[:, None, None, :])
        weights = [first * self.masks[:, None, :, None], *others]
        pairs = [tensor for pair in zip(weights, self.biases, strict=True) for tensor in pair]
        return list(zip(limits, *(tensor.unbind(0) for tensor in pairs), strict=True))

    def _networks(self, z: Codes, block: tuple[Tensor, ...]) -> tuple[Codes, Codes]:
        """Return s and t of one block from one batched network; zero where b_k is one."""
        limits, *layers = block
        hidden = z.expand(2, *z.shape)
        for weight, bias in zip(layers[:-2:2], layers[1:-2:2], strict=True):
            hidden = functional.leaky_relu(
                torch.baddbmm(bias, hidden, weight), self.negative_slope, inplace=True
            )
        raw = torch.baddbmm(layers[-1], hidden, layers[-2])
        scale, translate = (self._bounded(raw) * limits).unbind(0)
        return scale, translate

    def _bounded(self, raw: Tensor) -> Tensor:
        """Return tanh of what has a bound; the bounds themselves are in the limits."""
        if self._all_bounded:
            return torch.tanh(raw)
        return torch.where(self._is_bounded, torch.tanh(raw), raw)


def _uniform(*shape: int, fan_in: int) -> nn.Parameter:
    """Return a parameter drawn as `nn.Linear` draws: uniform within 1 / sqrt(fan_in)."""
    limit = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(shape).uniform_(-limit, limit))

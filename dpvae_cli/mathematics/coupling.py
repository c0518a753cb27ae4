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

SCALE, TRANSLATE = 0, 1


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
        self.scale_bound = scale_bound
        self.translate_bound = translate_bound
        self.negative_slope = negative_slope
        self.register_buffer("masks", torch.tensor(masks, dtype=torch.get_default_dtype()))
        widths = [latent_dim, hidden, hidden, latent_dim]
        layers = list(pairwise(widths))
        self.weights = nn.ParameterList(_uniform(blocks, 2, i, o, fan_in=i) for i, o in layers)
        self.biases = nn.ParameterList(_uniform(blocks, 2, 1, o, fan_in=i) for i, o in layers)

    def forward(self, z: Codes) -> tuple[Codes, PerExample]:
        """Return z0 = g(z) and log|det dz0/dz| in nats, `(batch,)`."""
        log_abs_det = z.new_zeros(z.shape[0])
        for mask, *layers in reversed(self._blocks()):
            scale, translate = self._networks(z * mask, layers)
            scale = scale * (1 - mask)
            z = z * torch.exp(scale) + translate * (1 - mask)
            log_abs_det = log_abs_det + scale.sum(dim=-1)
        return z, log_abs_det

    def inverse(self, z0: Codes) -> tuple[Codes, PerExample]:
        """Return z = g^-1(z0) and log|det dz/dz0| in nats, `(batch,)`; exact, no iteration."""
        log_abs_det = z0.new_zeros(z0.shape[0])
        z = z0
        for mask, *layers in self._blocks():
            scale, translate = self._networks(z * mask, layers)
            scale = scale * (1 - mask)
            z = (z - translate * (1 - mask)) * torch.exp(-scale)
            log_abs_det = log_abs_det - scale.sum(dim=-1)
        return z, log_abs_det

    def _blocks(self) -> list[tuple[Tensor, ...]]:
        """Return (mask, three weights, three biases) of blocks 1 to K."""
        parameters = [*self.weights, *self.biases]
        return list(zip(self.masks, *(p.unbind(0) for p in parameters), strict=True))

    def _networks(self, conditioner: Codes, layers: list[Tensor]) -> tuple[Codes, Codes]:
        """Return s and t of one block, both from one batched network."""
        weights, biases = layers[:3], layers[3:]
        hidden = conditioner.expand(2, *conditioner.shape)
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            hidden = torch.baddbmm(bias, hidden, weight)
            hidden = functional.leaky_relu(hidden, self.negative_slope)
        raw = torch.baddbmm(biases[-1], hidden, weights[-1])
        return _bounded(raw[SCALE], self.scale_bound), _bounded(
            raw[TRANSLATE], self.translate_bound
        )


def _bounded(raw: Codes, bound: float | None) -> Codes:
    return raw if bound is None else bound * torch.tanh(raw)


def _uniform(*shape: int, fan_in: int) -> nn.Parameter:
    """Return a parameter drawn as `nn.Linear` draws: uniform within 1 / sqrt(fan_in)."""
    limit = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(shape).uniform_(-limit, limit))

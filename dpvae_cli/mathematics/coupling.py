"""Affine coupling: the invertible network g between z and z0 (paper, section 3.2).

Block k, with z_K = z and z_{k-1} the output of block k:

    z_{k-1} = b_k * z_k + (1 - b_k) * (z_k * exp(s_k(b_k * z_k)) + t_k(b_k * z_k))       (3)
    log|det d z_{k-1} / d z_k| = sum over l of (1 - b_kl) s_k(b_k * z_k)_l

The paper prints b_kl for (1 - b_kl) in (5) and (22)-(24); autograd's Jacobian agrees with the form
here (`tests/mathematics/test_coupling.py`). A mask b_k has 1 for a dimension that conditions and 0
for one that is transformed (Figure 9).
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpvae_cli.foundation.shapes import Codes, PerExample

IN_CACHE = 2**18
"""Numbers of a hidden layer that a core works on at a time where no gradient is wanted."""

Mask = tuple[int, ...]
Index = slice | list[int]
Map = Callable[[Codes], tuple[Codes, PerExample]]
B = TypeVar("B", bound="Bijection")


@final
class Block(NamedTuple):
    """What one block computes with: weights and biases by layer, and of which dimensions.

    Where gradients are wanted, indices are None and weights have zeros for what the mask cuts off:
    fewer operations to record. Elsewhere the zeros are left out: less arithmetic.
    """

    layers: tuple[Tensor, ...]
    conditioning: Index | None = None
    transformed: Index | None = None


def alternating(blocks: int, latent_dim: int) -> tuple[Mask, ...]:
    """Return checkerboard masks: even dimensions condition in one block, odd ones in the next."""
    return tuple(tuple((l + k + 1) % 2 for l in range(latent_dim)) for k in range(blocks))


def halves(blocks: int, latent_dim: int) -> tuple[Mask, ...]:
    """Return masks whose first half conditions in one block and the second half in the next."""
    cut = latent_dim // 2
    return tuple(
        tuple(int((l < cut) == (k % 2 == 0)) for l in range(latent_dim)) for k in range(blocks)
    )


def constant_dimensions(masks: Sequence[Mask]) -> list[int]:
    """Return the dimensions that no block transforms; g would leave them as they are."""
    return [l for l in range(len(masks[0])) if all(mask[l] == 1 for mask in masks)]


class Bijection(nn.Module, ABC):
    """g: z -> z0 and back, each with the log-determinant of the way taken."""

    context: Tensor | None = None
    """What g depends on beside z: `(context,)` for all codes or `(batch, context)`, or nothing."""

    def given(self: B, context: Tensor) -> B:
        """Return g with a context; the weights are shared. It must be made for one."""
        bound = copy.copy(self)
        bound.context = context
        return bound

    @abstractmethod
    def forward(self, z: Codes) -> tuple[Codes, PerExample]:
        """Return z0 = g(z) and log|det dz0/dz| in nats, `(batch,)`.

        Where g overflows z0 is infinite and the log-determinant zero (`overflow_to_infinity`).
        """

    @abstractmethod
    def inverse(self, z0: Codes) -> tuple[Codes, PerExample]:
        """Return z = g^-1(z0) and log|det dz/dz0| in nats, `(batch,)`."""


def overflow_to_infinity(
    g: Bijection, z: Codes, z0: Codes, log_abs_det: PerExample
) -> tuple[Codes, PerExample]:
    """Return z0 = g(z) and its log-determinant, infinity and zero where finite z overflow.

    The density of z is lost there, infinity less infinity. It is far smaller than any number: a
    base falls off faster than the determinant grows, and at an infinite z0 its logarithm is -inf.
    Weights that are not finite are not an overflow: then NaN is returned, at the latest where no
    gradient is wanted.
    """
    is_lost = torch.isfinite(z).all(dim=1) & ~torch.isfinite(z0.sum(dim=1) + log_abs_det)
    if (
        not torch.is_grad_enabled()
        and not torch.compiler.is_exporting()
        and bool(is_lost.any())
        and not all(bool(torch.isfinite(weight).all()) for weight in g.parameters())
    ):
        return z0, log_abs_det
    z0 = z0.masked_fill(is_lost.unsqueeze(1), torch.inf)
    return z0, log_abs_det.masked_fill(is_lost, 0.0)


@final
class AffineCoupling(Bijection):
    """g = g^(1) o ... o g^(K): a stack of K affine coupling blocks.

    The scale and the translation net of a block (L - hidden - hidden - L, leaky ReLU) run as one
    batched network: their weights are the two slices of one tensor, and all blocks share one
    tensor per layer, so an optimizer has six tensors for any K.

    Source: paper, equations (3), (4) and Figure 9; K, widths, activation and the tanh bounds are
    the released code's, for the text names none.

    Args:
        masks: K masks of length L; 1 conditions, 0 is transformed.
        hidden: width of the two hidden layers.
        scale_bound: s = scale_bound * tanh(raw); None leaves s unbounded.
        translate_bound: the same for t.
        negative_slope: of the leaky ReLU.
        context: entries of what g is given beside z, if anything.

    Example:
        >>> import torch
        >>> from dpvae_cli.mathematics.coupling import halves
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
        context: int = 0,
    ) -> None:
        super().__init__()
        blocks, latent_dim = len(masks), len(masks[0])
        self.negative_slope = negative_slope
        bounds = (scale_bound, translate_bound)
        self._all_bounded = None not in bounds
        limits = torch.tensor([1.0 if bound is None else bound for bound in bounds])
        self._all_one = all(bound in (None, 1.0) for bound in bounds)
        is_bounded = torch.tensor([bound is not None for bound in bounds])
        self.register_buffer("_limits", limits.view(2, 1, 1), persistent=False)
        self.register_buffer("_is_bounded", is_bounded.view(2, 1, 1), persistent=False)
        self.register_buffer("masks", torch.tensor(masks, dtype=torch.get_default_dtype()))
        self._indices = [(_index(mask, 1), _index(mask, 0)) for mask in masks]
        self._chunk_rows = max(1, IN_CACHE // (2 * hidden))
        widths = [latent_dim, hidden, hidden, latent_dim]
        layers = list(pairwise(widths))
        self.weights = nn.ParameterList(_uniform(blocks, 2, i, o, fan_in=i) for i, o in layers)
        self.biases = nn.ParameterList(_uniform(blocks, 2, 1, o, fan_in=i) for i, o in layers)
        self.context_weight = (
            _uniform(blocks, 2, context, hidden, fan_in=context) if context else None
        )

    def forward(self, z: Codes) -> tuple[Codes, PerExample]:
        """Return z0 = g(z) and log|det dz0/dz| in nats, `(batch,)`."""

        def transform(z: Codes) -> tuple[Codes, PerExample]:
            scales = []
            for block in reversed(self._blocks()):
                scale, translate = self._networks(_select(z, block.conditioning), block)
                rest = torch.addcmul(translate, _select(z, block.transformed), torch.exp(scale))
                z = _scatter(rest, z, block)
                scales.append(scale)
            return z, torch.cat(scales, dim=1).sum(dim=1)

        return overflow_to_infinity(self, z, *self._in_chunks(transform, z))

    def inverse(self, z0: Codes) -> tuple[Codes, PerExample]:
        """Return z = g^-1(z0) and log|det dz/dz0| in nats, `(batch,)`; exact, no iteration."""

        def invert(z: Codes) -> tuple[Codes, PerExample]:
            scales = []
            for block in self._blocks():
                scale, translate = self._networks(_select(z, block.conditioning), block)
                rest = (_select(z, block.transformed) - translate) * torch.exp(-scale)
                z = _scatter(rest, z, block)
                scales.append(scale)
            return z, -torch.cat(scales, dim=1).sum(dim=1)

        return self._in_chunks(invert, z0)

    def _in_chunks(self, transform: Map, z: Codes) -> tuple[Codes, PerExample]:
        """Send codes through, where no gradient is wanted as many at a time as a cache holds."""
        if torch.is_grad_enabled() or torch.compiler.is_exporting() or z.device.type != "cpu":
            return transform(z)  # an exported graph takes batches of any size
        rows = self._chunk_rows * torch.get_num_threads()
        has_rows_of_context = self.context is not None and self.context.dim() > 1
        if len(z) <= rows or has_rows_of_context:
            return transform(z)
        values, log_dets = zip(
            *(transform(part) for part in z.chunk(-(-len(z) // rows))), strict=True
        )
        return torch.cat(values), torch.cat(log_dets)

    def _blocks(self) -> list[Block]:
        """Return what blocks 1 to K compute with."""
        (w1, w2, w3), (b1, b2, b3) = self.weights, self.biases
        if self.context_weight is not None and self.context is not None:
            b1 = b1 + torch.atleast_2d(self.context) @ self.context_weight
        if torch.is_grad_enabled():
            rows, columns = self.masks[:, None, :, None], 1 - self.masks[:, None, None, :]
            tensors = (w1 * rows, b1, w2, b2, w3 * columns, b3 * columns)
            return [Block(layers) for layers in zip(*(t.unbind(0) for t in tensors), strict=True)]
        whole = zip(*(tensor.unbind(0) for tensor in (w1, b1, w2, b2, w3, b3)), strict=True)
        return [
            Block(
                (w1[:, conditioning], b1, w2, b2, w3[..., transformed], b3[..., transformed]),
                conditioning,
                transformed,
            )
            for (conditioning, transformed), (w1, b1, w2, b2, w3, b3) in zip(
                self._indices, whole, strict=True
            )
        ]

    def _networks(self, conditioning: Tensor, block: Block) -> tuple[Tensor, Tensor]:
        """Return s and t of one block from one batched network."""
        *layers, last_weight, last_bias = block.layers
        hidden = conditioning.expand(2, *conditioning.shape)
        inplace = not torch.compiler.is_exporting()  # ONNX decomposes it for seconds
        for weight, bias in zip(layers[::2], layers[1::2], strict=True):
            hidden = torch.baddbmm(bias, hidden, weight)
            hidden = functional.leaky_relu(hidden, self.negative_slope, inplace=inplace)
        raw = torch.baddbmm(last_bias, hidden, last_weight)
        bounded = torch.tanh(raw) if self._all_one else self._limits * torch.tanh(raw)
        if not self._all_bounded:
            bounded = torch.where(self._is_bounded, bounded, raw)
        scale, translate = bounded.unbind(0)
        return scale, translate

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Load weights; the masks, which the module was made with, must be the same.

        Raises:
            RuntimeError: they are not.
        """
        saved = state_dict.get(f"{prefix}masks", self.masks)
        if not torch.equal(saved.to(self.masks), self.masks):
            raise RuntimeError("the masks are not those that the coupling was made with")
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _index(mask: Mask, value: int) -> Index:
    """Return the dimensions where a mask has a value, as a slice where they are neighbours."""
    found = [index for index, entry in enumerate(mask) if entry == value]
    neighbours = slice(found[0], found[-1] + 1) if found else slice(0)
    return neighbours if len(found) == len(range(len(mask))[neighbours]) else found


def _select(z: Codes, index: Index | None) -> Tensor:
    return z if index is None else z[:, index]


def _scatter(transformed: Tensor, z: Codes, block: Block) -> Codes:
    """Return z with the dimensions that a block transforms replaced."""
    if block.transformed is None:
        return transformed
    z = z.clone()
    z[:, block.transformed] = transformed
    return z


def _uniform(*shape: int, fan_in: int) -> nn.Parameter:
    """Return a parameter drawn as `nn.Linear` draws: uniform within 1 / sqrt(fan_in)."""
    limit = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(shape).uniform_(-limit, limit))

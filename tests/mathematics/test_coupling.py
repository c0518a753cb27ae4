"""Affine coupling against autograd's Jacobian, its inverse and a form with ordinary layers."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close

from dpvae_cli.mathematics.coupling import (
    AffineCoupling,
    Mask,
    alternating,
    constant_dimensions,
    halves,
)
from tests.mathematics.random_models import normal, randomised

MASKS = {
    "halves": halves,
    "alternating": alternating,
    "given": lambda blocks, latent_dim: tuple(
        tuple(int((l + k) % latent_dim < latent_dim - 1) for l in range(latent_dim))
        for k in range(blocks)
    ),
}


def points(latent_dim: int, *, length: float | None = None) -> Tensor:
    """Return points around the origin, or all at one distance from it."""
    z = 1.5 * normal(16, latent_dim, seed=5)
    return z if length is None else length * z / z.norm(dim=-1, keepdim=True)


def random_coupling(
    masks: tuple[Mask, ...], *, bound: float | None = 1.0, seed: int = 0
) -> AffineCoupling:
    bijection = AffineCoupling(
        masks, hidden=16, scale_bound=bound, translate_bound=bound, negative_slope=0.1
    )
    # unbounded scales feed on each other's exponentials, so many blocks need smaller weights
    gain = 2.0 if bound is not None else 0.4 + 0.6 / len(masks)
    return randomised(bijection, gain=gain, seed=seed)


def check_log_det(bijection, z: Tensor) -> None:
    """Assert that the log-determinant is the one of autograd's Jacobian."""
    jacobian = torch.func.vmap(
        torch.func.jacrev(lambda one: bijection.forward(one.unsqueeze(0))[0].squeeze(0))
    )(z)
    _, log_abs_det = bijection.forward(z)
    assert log_abs_det.shape == z.shape[:1]
    assert_close(log_abs_det, torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-8, atol=1e-8)


def check_inverse(bijection, z: Tensor) -> None:
    """Assert that both maps undo each other and their log-determinants sum to zero."""
    z0, forward = bijection.forward(z)
    back, inverse = bijection.inverse(z0)
    assert_close(back, z, rtol=1e-8, atol=1e-8)
    assert_close(forward + inverse, torch.zeros_like(forward), rtol=0, atol=1e-8)


@dataclass
class PrintedMask:
    """A broken copy: its log-determinant weights s by b_k, as the paper prints it."""

    bijection: AffineCoupling

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return equation_3(self.bijection, z, weight_of_scale=lambda mask: mask)


@dataclass
class WrongScale:
    """A broken copy: its inverse comes back with a wrong scale."""

    bijection: AffineCoupling

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.bijection.forward(z)

    def inverse(self, z0: Tensor) -> tuple[Tensor, Tensor]:
        z, log_abs_det = self.bijection.inverse(z0)
        return z * torch.exp(log_abs_det).unsqueeze(-1), log_abs_det


@pytest.mark.parametrize("bound", [1.0, None])
@pytest.mark.parametrize("blocks", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("latent_dim", [2, 3, 8])
def test_is_a_bijection_with_the_jacobian_of_autograd(latent_dim, kind, blocks, bound):
    bijection = random_coupling(MASKS[kind](blocks, latent_dim), bound=bound, seed=blocks)
    z = torch.cat([points(latent_dim), points(latent_dim, length=6.0)])
    z0, log_abs_det = bijection.forward(z)
    assert (z0 - z).abs().max() > 0.3, "too near the identity to tell anything"
    assert log_abs_det.abs().max() > 0.1, "too near volume preservation to tell anything"
    check_inverse(bijection, z)
    check_log_det(bijection, z)


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("latent_dim", [2, 3, 8])
def test_printed_mask_fails_the_jacobian_check(latent_dim, kind):
    bijection = random_coupling(MASKS[kind](6, latent_dim))
    z = points(latent_dim)
    assert_close(PrintedMask(bijection).forward(z)[0], bijection.forward(z)[0])
    with pytest.raises(AssertionError):
        check_log_det(PrintedMask(bijection), z)


def test_wrong_inverse_fails_the_inverse_check():
    with pytest.raises(AssertionError):
        check_inverse(WrongScale(random_coupling(halves(6, 2))), points(2))


@pytest.mark.parametrize("bound", [0.5, 1.0, None])
def test_equals_equation_3_with_ordinary_layers(bound):
    bijection = random_coupling(MASKS["given"](3, 4), bound=bound)
    z = points(4)
    expected = equation_3(bijection, z, weight_of_scale=lambda mask: 1 - mask, bound=bound)
    assert_close(bijection.forward(z), expected, rtol=1e-12, atol=1e-12)


def test_one_bound_alone():
    masks = MASKS["given"](3, 4)
    bijection = randomised(
        AffineCoupling(masks, hidden=16, scale_bound=0.5, translate_bound=None), gain=2.0, seed=1
    )
    for mask, block in zip(bijection.masks, range(3), strict=True):
        raw = [as_layers(bijection, block, net)(points(4) * mask) for net in (0, 1)]
        scale, translate = bijection._networks(points(4), bijection._blocks()[block])
        assert_close(scale, (1 - mask) * 0.5 * torch.tanh(raw[0]))
        assert_close(translate, (1 - mask) * raw[1])


def equation_3(
    bijection: AffineCoupling, z: Tensor, *, weight_of_scale, bound: float | None = 1.0
) -> tuple[Tensor, Tensor]:
    """Return z0 by equation (3), block by block with ordinary layers, and a sum of weighted s."""
    total = torch.zeros(len(z), dtype=z.dtype)
    for block in reversed(range(len(bijection.masks))):
        mask = bijection.masks[block]
        scale, translate = (
            bounded(as_layers(bijection, block, net)(mask * z), bound) for net in (0, 1)
        )
        z = mask * z + (1 - mask) * (z * torch.exp(scale) + translate)
        total = total + (weight_of_scale(mask) * scale).sum(dim=-1)
    return z, total


def as_layers(bijection: AffineCoupling, block: int, net: int) -> Callable[[Tensor], Tensor]:
    """Return one scale or translation net as ordinary linear layers one after the other."""

    def network(x: Tensor) -> Tensor:
        for depth, (weight, bias) in enumerate(
            zip(bijection.weights, bijection.biases, strict=True)
        ):
            if depth:
                x = functional.leaky_relu(x, bijection.negative_slope)
            x = functional.linear(x, weight[block, net].T, bias[block, net, 0])
        return x

    return network


def bounded(raw: Tensor, bound: float | None) -> Tensor:
    return raw if bound is None else bound * torch.tanh(raw)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_gradients_reach_both_nets_of_every_block(direction):
    bijection = random_coupling(halves(6, 2))
    value, log_abs_det = getattr(bijection, direction)(points(2))
    (value.square().sum() + log_abs_det.sum()).backward()
    for parameter in bijection.parameters():
        assert (parameter.grad.flatten(2).abs().amax(dim=-1) > 0).all()


def test_bounds_limit_log_scale_and_translation():
    bijection = random_coupling(((1, 0),), bound=0.25)
    bijection.weights[-1].data *= 1e3
    _, log_abs_det = bijection.forward(points(2))
    assert 0.2 < log_abs_det.abs().max() <= 0.25
    shift = bijection.forward(torch.zeros(4, 2, dtype=torch.float64))[0]
    assert 0.2 < shift[:, 1].abs().max() <= 0.25


def test_gradient_agrees_with_finite_differences():
    bijection = random_coupling(alternating(3, 3))
    inputs = (points(3)[:3].requires_grad_(),)
    assert torch.autograd.gradcheck(bijection.forward, inputs)
    assert torch.autograd.gradcheck(bijection.inverse, inputs)


def test_weights_start_within_the_bounds_of_linear_layers():
    bijection = AffineCoupling(halves(6, 3), hidden=16)
    widths = [3, 16, 16, 3]
    for (fan_in, _), weight in zip(pairwise(widths), bijection.weights, strict=True):
        assert 0.9 * fan_in**-0.5 < weight.abs().max() <= fan_in**-0.5


def test_masks():
    assert halves(2, 3) == ((1, 0, 0), (0, 1, 1))
    assert alternating(2, 3) == ((1, 0, 1), (0, 1, 0))
    assert halves(4, 2) == alternating(4, 2)
    assert constant_dimensions(halves(1, 4)) == [0, 1]
    assert constant_dimensions(halves(2, 4)) == []


SOME_MASKS = MASKS | {
    "nothing conditions": lambda blocks, latent_dim: ((0,) * latent_dim,) * blocks,
    "apart": lambda blocks, latent_dim: (
        (1, *(0,) * (latent_dim - 2), 1),
        (0, *(1,) * (latent_dim - 1)),
    ),
}


@pytest.mark.parametrize("rows", [None, 5], ids=["at once", "in parts"])
@pytest.mark.parametrize("bound", [0.5, 1.0, None])
@pytest.mark.parametrize("kind", SOME_MASKS)
@pytest.mark.parametrize("latent_dim", [3, 8])
def test_is_the_same_without_gradients(latent_dim, kind, bound, rows):
    """Without gradients what a mask cuts off is left out, and large batches go in parts."""
    bijection = random_coupling(SOME_MASKS[kind](4, latent_dim), bound=bound)
    z = points(latent_dim)
    before = z.clone()
    for way in (bijection.forward, bijection.inverse):
        recorded = way(z)
        with torch.no_grad():
            bijection._chunk_rows = rows or bijection._chunk_rows
            plain = way(z)
        assert recorded[0].requires_grad
        assert not plain[0].requires_grad
        assert_close(plain, tuple(part.detach() for part in recorded), rtol=1e-12, atol=1e-12)
    assert torch.equal(z, before)


@torch.no_grad()
def test_parts_are_as_many_as_a_cache_holds(monkeypatch):
    bijection = AffineCoupling(halves(2, 2), hidden=64)
    seen = []
    original = torch.Tensor.chunk

    def chunk(z, count):
        seen.extend(len(part) for part in original(z, count))
        return original(z, count)

    monkeypatch.setattr(torch.Tensor, "chunk", chunk)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    bijection.forward(torch.zeros(10_000, 2))
    assert seen == [3_334, 3_334, 3_332]
    bijection.forward(torch.zeros(4_096, 2))
    assert len(seen) == 3  # nothing to divide
    assert bijection.forward(torch.zeros(0, 2))[1].shape == (0,)


def test_weights_of_other_masks_are_refused():
    saved = AffineCoupling(halves(2, 2)).state_dict()
    with pytest.raises(RuntimeError, match="masks"):
        AffineCoupling(tuple(reversed(halves(2, 2)))).load_state_dict(saved)
    AffineCoupling(halves(2, 2)).double().load_state_dict(saved)

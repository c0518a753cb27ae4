"""Streams are functions of seed and position."""

import torch

from dpvae_cli.foundation.randomness import derive_seed, fork_rng, stream

POSITIONS = [
    (0,),
    (1,),
    (0, "noise"),
    (0, "noise", 0),
    (0, "noise", 1),
    (0, "noise", 11),
    (0, "noise", 1, 1),
    (0, "order", 1),
    (1, "noise", 1),
    (2**40, "noise", 1),
]


def draw(*position: str | int) -> tuple[float, ...]:
    return tuple(torch.randn(4, generator=stream(*position)).tolist())


def test_streams_are_repeatable_and_distinct():
    draws = [draw(*position) for position in POSITIONS]
    assert draws == [draw(*position) for position in POSITIONS]
    assert len(set(draws)) == len(POSITIONS)


def test_thousands_of_positions_do_not_collide():
    seeds = {derive_seed(seed, "noise", step) for seed in range(3) for step in range(5000)}
    assert len(seeds) == 15_000
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_never_change():
    """A resumed run must find its streams again under a later version too."""
    assert derive_seed(0, "noise", 4711) == 3_929_186_722_920_365_035


def test_streams_leave_the_global_generator_alone():
    before = torch.random.get_rng_state()
    draw(0, "noise")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_seeded_block_is_repeatable_and_leaves_no_trace():
    before = torch.random.get_rng_state()
    layers = []
    for seed in (0, 0, 1):
        with fork_rng(seed, "weights"):
            layers.append(torch.nn.Linear(3, 3).weight)
    assert torch.equal(layers[0], layers[1])
    assert not torch.equal(layers[0], layers[2])
    assert torch.equal(torch.random.get_rng_state(), before)

"""Arrays survive the way into a page, and codes come in blocks of neighbours."""

import gzip
import hashlib
import json

import numpy as np
import pytest
import torch

from dpvae_cli.explorer.content import blocks_of_neighbours, plane_grid, points_among
from dpvae_cli.explorer.packing import pack
from dpvae_cli.explorer.runtime import FOLDER, MODULE, WASM, runtime_scripts
from tests.explorer.pages import unpack


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_an_array_comes_back_within_half_a_step(size):
    array = np.random.default_rng(0).normal(size=(200, 3)) * [1, 100, 0] + [0, -7, 5]
    packed = pack(array, size)
    widest = np.ptp(array, axis=0)
    assert unpack(packed).shape == array.shape
    assert (np.abs(unpack(packed) - array) <= 0.501 * widest / (256**size - 1) + 1e-12).all()


def test_sixty_thousand_codes_in_two_dimensions_take_less_than_1500_kb():
    generator = np.random.default_rng(0)
    codes = generator.normal(size=(60_000, 2)).astype(np.float32)
    assert sum(len(pack(codes, 3)["data"]) for _ in ("mean", "log_variance")) < 1_500_000


@pytest.mark.parametrize("count", [1, 31, 32, 33, 65, 1_000])
def test_blocks_are_a_permutation_of_neighbours(count):
    mean = np.random.default_rng(0).uniform(size=(count, 2))
    order = blocks_of_neighbours(mean, 32)
    assert sorted(order) == list(range(count))
    blocks = [mean[order[start : start + 32]] for start in range(0, count, 32)]
    if count == 1_000:
        assert np.mean([np.ptp(block, axis=0).prod() for block in blocks]) < 0.1


def test_points_are_found_among_rows():
    rows = torch.randperm(50, generator=torch.Generator().manual_seed(0))[:20]
    points = rows[[3, 7, 11]]
    assert rows[points_among(points, rows)].tolist() == points.tolist()


def test_a_grid_has_the_centres_of_its_cells():
    base, low, high = torch.tensor([[5.0, 6.0, 7.0]]), torch.zeros(3), torch.tensor([2.0, 4.0, 8.0])
    points = plane_grid(base, torch.tensor([0, 2]), low, high, 2)
    assert points.tolist() == [[0.5, 6, 2], [1.5, 6, 2], [0.5, 6, 6], [1.5, 6, 6]]


def test_the_runtime_is_what_npm_has():
    digests = json.loads((FOLDER / "manifest.json").read_text())["sha256"]
    files = {
        MODULE: (FOLDER / MODULE).read_bytes(),
        WASM: gzip.decompress((FOLDER / f"{WASM}.gz").read_bytes()),
    }
    assert {name: hashlib.sha256(each).hexdigest() for name, each in files.items()} == digests
    assert "Permission is hereby granted" in runtime_scripts()["licence"]

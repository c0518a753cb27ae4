"""Files that older versions wrote with torch.save: read, resumed, and refused where changed."""

import random
import shutil
from pathlib import Path

import pytest
import torch

import dpvae_cli as dpvae
from dpvae_cli.foundation.errors import CheckpointError
from dpvae_cli.foundation.serialization import ZIP
from dpvae_cli.recipe import load_recipe
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.training.train import train

FORMAT1 = Path(__file__).parent / "format1"
X = torch.tensor([[0.5, 0.25], [1.0, -0.5]])


def test_a_checkpoint_of_format_1_is_read():
    path = FORMAT1 / "checkpoint.pt"
    assert path.read_bytes().startswith(ZIP)
    checkpoint = checkpoints.read_checkpoint(path)
    assert checkpoint.iteration == 4
    assert checkpoint.recipe.training.iterations == 4
    expected = torch.tensor([[0.398721, -0.27928], [0.286585, -0.384175]])
    assert torch.allclose(dpvae.load(path).encode(X).mean, expected, atol=1e-5)


def test_a_prior_of_format_1_is_read():
    prior = dpvae.load_prior(FORMAT1 / "prior.pt")
    assert torch.allclose(prior.log_prob(X), torch.tensor([-2.200192, -3.126471]), atol=1e-5)


def test_a_run_of_format_1_goes_on_in_the_new_one(tmp_path):
    shutil.copy(FORMAT1 / "checkpoint.pt", tmp_path)
    shutil.copy(FORMAT1 / "recipe.yaml", tmp_path)
    recipe = load_recipe(tmp_path / "recipe.yaml", ["training.iterations=6"])
    old = checkpoints.read_checkpoint(tmp_path / "checkpoint.pt")
    train(recipe, tmp_path, mode="resume")
    new = checkpoints.read_checkpoint(tmp_path / "checkpoint.pt")
    assert not (tmp_path / "checkpoint.pt").read_bytes().startswith(ZIP)
    assert (tmp_path / "checkpoint.previous.pt").read_bytes().startswith(ZIP)
    assert new.iteration == 6
    assert new.tensors["optimizer.0.step"] == old.tensors["optimizer.0.step"] + 2
    new.write(tmp_path / "again.pt")
    assert (tmp_path / "again.pt").read_bytes() == (tmp_path / "checkpoint.pt").read_bytes()


def test_no_flipped_bit_changes_what_is_read(tmp_path):
    content = (FORMAT1 / "checkpoint.pt").read_bytes()
    good = checkpoints.read_checkpoint(FORMAT1 / "checkpoint.pt")
    draw, path, refused = random.Random(0), tmp_path / "x.pt", 0
    for _ in range(60):
        changed = bytearray(content)
        changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        try:
            found = checkpoints.read_checkpoint(path)
        except CheckpointError:
            refused += 1
            continue
        assert (found.recipe, found.facts) == (good.recipe, good.facts)
        assert all(torch.equal(found.tensors[k], tensor) for k, tensor in good.tensors.items())
    assert refused > 20


@pytest.mark.parametrize("length", [100, 6_000, 11_000])
def test_no_cut_file_is_read(length, tmp_path):
    (tmp_path / "x.pt").write_bytes((FORMAT1 / "checkpoint.pt").read_bytes()[:length])
    with pytest.raises(CheckpointError, match="cut short"):
        checkpoints.read_checkpoint(tmp_path / "x.pt")

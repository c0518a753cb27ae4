"""How much memory training takes, told from shapes alone."""

import pytest
import torch

from dpvae_cli.foundation import memory
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.recipe import load_recipe
from dpvae_cli.training import footprint
from dpvae_cli.training.trainer import Trainer
from tests.small import small_recipe


def counted(monkeypatch, *overrides, shape=(2,)):
    monkeypatch.setattr(footprint, "ORDINARY_BATCH", 0)
    recipe = load_recipe("vae_moons", ["prior=standard_normal", *overrides])
    return footprint._counted(recipe, shape)


def test_numbers_kept_of_an_example_are_those_of_its_layers(monkeypatch):
    """2 - 8 - 2L and back: autograd keeps each layer's input, and what a leaky ReLU was given."""
    weights, kept = counted(monkeypatch, "architecture.hidden=[8]")
    assert weights == (2 * 8 + 8) + (8 * 4 + 4) + (2 * 8 + 8) + (8 * 2 + 2)
    assert 2 * 8 <= kept <= 8 * (2 + 8 + 4 + 2 + 8 + 2)
    assert counted(monkeypatch, "architecture.hidden=[80]")[1] > 5 * kept


def test_convolutions_count_by_their_area(monkeypatch):
    small, large = (
        counted(monkeypatch, "architecture=conv", "architecture.depth=2", shape=(1, side, side))[1]
        for side in (16, 32)
    )
    assert large == pytest.approx(4 * small, rel=0.01)


@pytest.mark.parametrize(
    "override", ["training.batch_size=100000000", "architecture.hidden=[40000, 40000]"]
)
def test_too_much_is_refused(override, monkeypatch):
    monkeypatch.setattr(memory, "total_memory_bytes", lambda: 2**33)
    with pytest.raises(UsageError, match="GB of memory") as caught:
        footprint.refuse_training(load_recipe("factor_moons", [override]), (2,))
    assert "training.batch_size=" in str(caught.value)


def test_the_trainer_asks(monkeypatch):
    recipe = small_recipe()
    monkeypatch.setattr(memory, "total_memory_bytes", lambda: 1_000)
    with pytest.raises(UsageError, match=r"training with training\.batch_size=16"):
        Trainer(recipe, _drawn(recipe, monkeypatch), torch.device("cpu"))


def _drawn(recipe, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(memory, "total_memory_bytes", lambda: 2**40)
        return recipe.data.load()


def test_ordinary_recipes_are_not_counted():
    for name in ("vae_moons", "factor_mnist", "beta_h_celeba", "vae_svhn"):
        recipe = load_recipe(name)
        shape = recipe.data.example_shape()
        weights, kept = footprint._counted(recipe, shape)
        assert weights > 10_000
        assert kept == 0

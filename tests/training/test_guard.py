import pytest
import torch

from dpvae_cli.foundation.errors import DivergedError
from dpvae_cli.recipe import Recipe
from dpvae_cli.training import checkpoint as checkpoints
from dpvae_cli.training.guard import FiniteGuard, refuse_bad_weights
from dpvae_cli.training.loop import train
from dpvae_cli.training.trainer import Trainer
from tests.small import small_recipe

BAD_STEP = 7


def trainer_that_diverges(recipe: Recipe, *, deferred: bool) -> Trainer:
    """Return a trainer whose data turns into NaN at the seventh step."""
    trainer = Trainer(recipe, recipe.data.load(), torch.device("cpu"))
    optimizers = [o for o in (trainer.optimizer, trainer.adversary_optimizer) if o is not None]
    trainer.guard = FiniteGuard(optimizers, torch.device("cpu"), deferred=deferred)
    order = trainer._order

    class Poisoned:
        def batch(self, iteration):
            if iteration + 1 == BAD_STEP:
                trainer.split.stored.fill_(float("nan"))
            return order.batch(iteration)

    trainer._order = Poisoned()
    return trainer


@pytest.mark.parametrize("regularizer", ["vae", "factor"])
def test_the_deferred_flag_keeps_the_weights_of_the_last_good_step(regularizer):
    recipe = small_recipe(regularizer)
    good = Trainer(recipe, recipe.data.load(), torch.device("cpu"))
    for _ in range(BAD_STEP - 1):
        good.step()
    bad = trainer_that_diverges(recipe, deferred=True)
    for _ in range(BAD_STEP + 5):
        bad.step()
    for one, other in zip(good.model.parameters(), bad.model.parameters(), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(good.regularizer.parameters(), bad.regularizer.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("deferred", [False, True])
def test_the_first_bad_step_and_its_terms_are_named(deferred):
    trainer = trainer_that_diverges(small_recipe(), deferred=deferred)

    def run():
        for _ in range(BAD_STEP + 5):
            trainer.step()
        trainer.guard.read()

    with pytest.raises(DivergedError, match=f"iteration {BAD_STEP}: .*reconstruction"):
        run()


def test_a_finite_run_reads_clean():
    trainer = Trainer(small_recipe(), small_recipe().data.load(), torch.device("cpu"))
    trainer.guard = FiniteGuard([trainer.optimizer], torch.device("cpu"), deferred=True)
    for _ in range(5):
        trainer.step()
    trainer.guard.read()


def test_no_checkpoint_with_bad_weights(tmp_path):
    recipe = small_recipe()
    train(recipe, tmp_path / "run")
    trainer = Trainer(recipe, recipe.data.load(), torch.device("cpu"))
    next(iter(trainer.model.decoder.parameters())).data[0] = float("inf")
    with pytest.raises(DivergedError, match=r"weight decoder\.0\.weight"):
        trainer.checkpoint()


@pytest.mark.parametrize("name", ["weight", "running_mean", "running_var"])
def test_no_checkpoint_with_bad_running_statistics(name):
    norm = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    refuse_bad_weights(norm, 3)
    getattr(norm[1], name).data[0] = float("nan")
    what = "weight" if name == "weight" else "buffer"
    with pytest.raises(DivergedError, match=rf"{what} 1\.{name} is not finite after iteration 3"):
        refuse_bad_weights(norm, 3)


def test_no_checkpoint_with_a_bad_average():
    recipe = small_recipe("vae", "training.ema=0.9")
    trainer = Trainer(recipe, recipe.data.load(), torch.device("cpu"))
    next(iter(trainer.trained().decoder.parameters())).data[0] = float("inf")
    with pytest.raises(DivergedError, match=r"weight decoder\.0\.weight"):
        trainer.checkpoint()


def test_a_diverged_run_leaves_the_last_good_checkpoint(tmp_path):
    recipe = small_recipe("vae", "training.learning_rate=1e30", "training.checkpoint_every=1")
    with pytest.raises(DivergedError) as caught:
        train(recipe, tmp_path / "run")
    assert caught.value.exit_code == 5
    for name in ("checkpoint.pt", "best.pt"):
        path = tmp_path / "run" / name
        if path.is_file():
            for tensor in checkpoints.read(path).part("model").values():
                assert bool(torch.isfinite(tensor).all())

import pytest
import torch

from dpvae_cli.foundation.errors import DivergedError
from dpvae_cli.recipe import Recipe
from dpvae_cli.regularizers import Term
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.training.execution import FiniteCheck, clip_gradients
from dpvae_cli.training.train import Trainer, train
from tests.small import small_recipe

BAD_STEP = 7


def set_deferred(trainer: Trainer, *, deferred: bool) -> None:
    """Let a trainer read its losses late, as on a GPU, or at once."""
    parts = trainer.state.parts().values()
    trainer.finite_check = FiniteCheck(parts, torch.device("cpu"), deferred=deferred)


def trainer_that_diverges(recipe: Recipe, *, deferred: bool) -> Trainer:
    """Return a trainer whose data turns into NaN at the seventh step."""
    trainer = Trainer(recipe, recipe.data.load(), torch.device("cpu"))
    set_deferred(trainer, deferred=deferred)
    sampler = trainer.sampler

    class Poisoned:
        def batch(self, iteration):
            if iteration + 1 == BAD_STEP:
                trainer.split.stored.fill_(float("nan"))
            return sampler.batch(iteration)

    trainer.sampler = Poisoned()
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
    for one, other in zip(good.state.model.parameters(), bad.state.model.parameters(), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(
        good.state.regularizer.parameters(), bad.state.regularizer.parameters(), strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize("deferred", [False, True])
def test_the_first_bad_step_and_its_terms_are_named(deferred):
    trainer = trainer_that_diverges(small_recipe(), deferred=deferred)

    def run():
        for _ in range(BAD_STEP + 5):
            trainer.step()
        trainer.finite_check.check_past_losses()

    with pytest.raises(DivergedError, match=f"iteration {BAD_STEP}: .*reconstruction"):
        run()


def test_a_finite_run_reads_clean():
    trainer = Trainer(small_recipe(), small_recipe().data.load(), torch.device("cpu"))
    set_deferred(trainer, deferred=True)
    for _ in range(5):
        trainer.step()
    trainer.finite_check.check_past_losses()


def test_no_checkpoint_with_bad_weights(tmp_path):
    recipe = small_recipe()
    train(recipe, tmp_path / "run")
    trainer = Trainer(recipe, recipe.data.load(), torch.device("cpu"))
    next(iter(trainer.state.model.decoder.parameters())).data[0] = float("inf")
    with pytest.raises(DivergedError, match=r"weight decoder\.0\.weight"):
        trainer.checkpoint()


@pytest.mark.parametrize("name", ["weight", "running_mean", "running_var"])
def test_no_checkpoint_with_bad_running_statistics(name):
    norm = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    check = FiniteCheck([norm], torch.device("cpu"))
    check.check_weights(3)
    getattr(norm[1], name).data[0] = float("nan")
    what = "weight" if name == "weight" else "buffer"
    with pytest.raises(DivergedError, match=rf"{what} 1\.{name} is not finite after iteration 3"):
        check.check_weights(3)


def test_no_checkpoint_with_a_bad_average():
    recipe = small_recipe("vae", "training.ema=0.9")
    trainer = Trainer(recipe, recipe.data.load(), torch.device("cpu"))
    next(iter(trainer.state.trained_model.decoder.parameters())).data[0] = float("inf")
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
            for tensor in checkpoints.read_checkpoint(path).part("model").values():
                assert bool(torch.isfinite(tensor).all())


def spoil_gradient(trainer, parameter, value, *, at):
    """Let one gradient of a step be `value`, while its loss is finite."""
    parameter.register_hook(
        lambda gradient: (
            torch.full_like(gradient, value) if trainer.state.iteration + 1 == at else gradient
        )
    )


def guarded_trainer(recipe, *, deferred):
    trainer = Trainer(recipe, recipe.data.load(), torch.device("cpu"))
    set_deferred(trainer, deferred=deferred)
    return trainer


def steps(trainer, count):
    for _ in range(count):
        trainer.step()
    trainer.finite_check.check_past_losses()


@pytest.mark.parametrize("clip", ["null", "1.0"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_gradient_that_went_wrong_first_is_named(value, clip):
    recipe = small_recipe("vae", f"training.gradient_clip={clip}")
    trainer = guarded_trainer(recipe, deferred=False)
    spoil_gradient(trainer, trainer.state.model.decoder[2].bias, value, at=BAD_STEP)
    first = rf"gradient of decoder\.2\.bias not finite after iteration {BAD_STEP}, then reconstr"
    with pytest.raises(DivergedError, match=rf"iteration {BAD_STEP + 1}: {first}"):
        steps(trainer, BAD_STEP + 5)


def test_read_late_the_weight_is_named():
    trainer = guarded_trainer(small_recipe(), deferred=True)
    spoil_gradient(trainer, trainer.state.model.decoder[2].bias, float("nan"), at=BAD_STEP)
    first = rf"weight decoder\.2\.bias not finite after iteration {BAD_STEP}, then reconstr"
    with pytest.raises(DivergedError, match=rf"iteration {BAD_STEP + 1}: {first}"):
        steps(trainer, BAD_STEP + 5)


@pytest.mark.parametrize("deferred", [False, True])
def test_an_adversary_that_went_wrong_is_named(deferred):
    trainer = guarded_trainer(small_recipe("factor"), deferred=deferred)
    name, weight = list(trainer.state.regularizer.named_parameters())[-1]
    spoil_gradient(trainer, weight, float("nan"), at=BAD_STEP)
    with pytest.raises(DivergedError, match=name.replace(".", r"\.")) as caught:
        steps(trainer, BAD_STEP + 5)
    assert "then total_correlation" in str(caught.value)


def test_of_many_gradients_three_are_listed():
    trainer = guarded_trainer(small_recipe(), deferred=False)
    for parameter in trainer.state.model.parameters():
        spoil_gradient(trainer, parameter, float("nan"), at=BAD_STEP)
    count = len(list(trainer.state.model.parameters())) - 3
    with pytest.raises(DivergedError, match=f"and {count} more not finite"):
        steps(trainer, BAD_STEP + 1)


def test_only_the_terms_that_are_not_finite_are_blamed():
    check = FiniteCheck([], torch.device("cpu"))
    kl = torch.tensor([1.0, float("inf"), 1.0])
    terms = {"reconstruction": Term(torch.ones(3)), "kl": Term(kl)}
    with pytest.raises(DivergedError, match=r"iteration 3: kl not finite \(loss inf, recon"):
        check.check_loss(3, torch.tensor(float("inf")), terms)
    overflow = {name: Term(torch.tensor([3e38])) for name in ("reconstruction", "kl")}
    with pytest.raises(DivergedError, match="iteration 4: loss not finite"):
        check.check_loss(4, torch.tensor(float("inf")), overflow)


def test_a_bad_gradient_of_the_last_step_reaches_no_file(tmp_path, monkeypatch):
    """No further step shows it, so validation and checkpoint look at the weights."""
    step = Trainer.step

    def last_step_spoils(trainer):
        terms = step(trainer)
        if trainer.state.iteration == trainer.recipe.training.iterations:
            next(iter(trainer.state.model.prior.parameters())).data[0] = float("nan")
        return terms

    monkeypatch.setattr(Trainer, "step", last_step_spoils)
    with pytest.raises(DivergedError, match=r"weight prior\..* is not finite after iteration 20"):
        train(small_recipe(), tmp_path / "run")
    assert checkpoints.read_checkpoint(tmp_path / "run" / "checkpoint.pt").iteration == 15


def test_no_checkpoint_with_a_bad_adversary():
    recipe = small_recipe("factor")
    trainer = Trainer(recipe, recipe.data.load(), torch.device("cpu"))
    next(iter(trainer.state.regularizer.parameters())).data[0] = float("nan")
    with pytest.raises(DivergedError, match=r"weight adversary\."):
        trainer.checkpoint()


@pytest.mark.parametrize("largest", [1e-3, 1.0, 1e6])
def test_clipping_is_torch_s(largest):
    ours, theirs = ([torch.nn.Parameter(torch.randn(4, 3)) for _ in range(3)] for _ in range(2))
    for one, other in zip(ours, theirs, strict=True):
        one.grad = torch.randn(4, 3)
        other.grad = one.grad.clone()
    clip_gradients(ours, largest)
    torch.nn.utils.clip_grad_norm_(theirs, largest)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-6, atol=0)


def test_a_norm_that_is_not_finite_clips_nothing():
    good, bad = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    good.grad, bad.grad = torch.tensor([30.0, 40.0]), torch.tensor([1.0, float("inf")])
    clip_gradients([good, bad], 1.0)
    assert good.grad.tolist() == [30.0, 40.0]
    assert bad.grad.tolist() == [1.0, float("inf")]


@pytest.mark.parametrize("largest", [0.01, 0.03])
def test_steps_are_taken_with_clipped_gradients_model_and_adversary_apart(largest):
    recipe = small_recipe("factor", f"training.gradient_clip={largest}")
    trainer = Trainer(recipe, recipe.data.load(), torch.device("cpu"))
    for _ in range(5):
        trainer.step()
        for module in (trainer.state.model, trainer.state.regularizer):
            norm = torch.cat([p.grad.flatten() for p in module.parameters()]).norm()
            assert float(norm) == pytest.approx(largest, rel=1e-3)


@pytest.mark.parametrize("name", ["vae", "factor"])
def test_a_clip_that_is_never_reached_changes_nothing(name):
    free, clipped = (
        Trainer(recipe, recipe.data.load(), torch.device("cpu"))
        for recipe in (small_recipe(name), small_recipe(name, "training.gradient_clip=1e9"))
    )
    for trainer in (free, clipped):
        for _ in range(5):
            trainer.step()
    for one, other in zip(
        free.state.model.parameters(), clipped.state.model.parameters(), strict=True
    ):
        assert torch.equal(one, other)

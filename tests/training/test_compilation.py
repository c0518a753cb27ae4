"""training.compile: a twin with the same weights, the same numbers, and nothing of it in a file."""

import pytest
import torch

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.training import compilation
from dpvae_cli.training.train import train
from dpvae_cli.training.trainer import Trainer
from tests.small import PRIORS, REGULARIZERS, small_recipe

CPU = torch.device("cpu")
on_off = pytest.mark.parametrize("compile", ["on", "off"])


@pytest.fixture(autouse=True)
def _traced_only(monkeypatch, request):
    """Trace and differentiate as torch.compile does, without a C++ compiler; but for slow tests."""
    if "slow" not in request.keywords:
        monkeypatch.setattr(compilation, "BACKEND", "aot_eager")
    yield
    torch.compiler.reset()


def trainer_of(*overrides: str, regularizer: str = "vae") -> Trainer:
    recipe = small_recipe(regularizer, *overrides)
    trainer = Trainer(recipe, recipe.data.load(), CPU)
    trainer.settle()
    return trainer


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_losses_and_gradients_are_those_without(regularizer):
    options = ("training.precision=float64", f"prior={PRIORS[len(regularizer) % 2]}")
    seen = []
    for compile in ("off", "on"):
        trainer = trainer_of(f"training.compile={compile}", *options, regularizer=regularizer)
        assert trainer.is_compiled == (compile == "on")
        losses = [weighted_loss(trainer.step()).item() for _ in range(2)]
        gradient = torch.cat([p.grad.flatten() for p in trainer.model.parameters()])
        seen.append((losses, gradient))
    (plain, plain_gradient), (quick, quick_gradient) = seen
    assert quick == pytest.approx(plain, rel=1e-10)
    torch.testing.assert_close(quick_gradient, plain_gradient, rtol=1e-8, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("prior", ["spline", "{kind: vamp, pseudo_inputs: 5}", "resampled"])
def test_other_priors_compute_the_same_compiled(prior):
    seen = []
    for compile in ("off", "on"):
        options = (f"training.compile={compile}", "training.precision=float64", f"prior={prior}")
        trainer = trainer_of(*options)
        seen.append([weighted_loss(trainer.step()).item() for _ in range(2)])
    assert seen[1] == pytest.approx(seen[0], rel=1e-10)


def test_the_decoupled_prior_is_compiled_too(monkeypatch):
    seen = []
    original = torch.compile

    def noting(what, **options):
        seen.append(getattr(what, "__name__", type(what).__name__))
        return original(what, **options)

    monkeypatch.setattr(torch, "compile", noting)
    trainer_of("training.compile=on").step()
    assert {"to_generation", "to_representation", "Encoder", "Sequential"} <= set(seen)


@pytest.mark.slow
def test_a_checkpoint_has_the_same_names(tmp_path):
    names = {}
    for compile in ("on", "off"):
        trainer = trainer_of(f"training.compile={compile}", "training.ema=0.9")
        trainer.step()
        trainer.checkpoint().write(tmp_path / f"{compile}.pt")
        saved = checkpoints.read_checkpoint(tmp_path / f"{compile}.pt")
        names[compile] = saved.tensors.keys()
        assert saved.facts["compiled"] == (compile == "on")
    assert names["on"] == names["off"]


def short(seconds: dict[str, list[float]]):
    """Return a `_trial` that takes what it is told: of plain and of compiled models in turn."""

    def trial(model, x, *, times=1):
        kind = "compiled" if hasattr(model.encoder, "_orig_mod") else "plain"
        return seconds[kind].pop(0) if len(seconds[kind]) > 1 else seconds[kind][0]

    return trial


@pytest.mark.parametrize(
    ("compiled", "steps", "pays"),
    [
        ([60.0, 0.5], 700, True),  # 350 s saved for 60
        ([60.0, 0.95], 1_000, False),  # 50 s saved for 60
        ([60.0, 1.2], 100_000, False),  # slower
        ([0.0, 0.5], 599, False),  # ten minutes are not worth a trial
    ],
)
def test_auto_weighs_what_is_saved_against_what_it_costs(compiled, steps, pays, monkeypatch):
    monkeypatch.setattr(compilation, "_trial", short({"plain": [1.0], "compiled": compiled}))
    recipe = small_recipe()
    trainer = Trainer(recipe, recipe.data.load(), CPU)
    x = trainer.split.examples(slice(0, 16))
    assert compilation.pays(trainer.model, x, steps=steps) is pays


def test_a_trial_leaves_no_trace():
    recipe = small_recipe()
    trainer, other = (Trainer(recipe, recipe.data.load(), CPU) for _ in range(2))
    x = trainer.split.examples(slice(0, 16))
    drawn = torch.get_rng_state()
    compilation.pays(trainer.model, x, steps=10**9)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    ours, theirs = trainer.step(), other.step()
    assert all(torch.equal(ours[name].value, theirs[name].value) for name in ours)


def test_a_run_that_is_gone_on_with_stays_as_it_was(tmp_path, monkeypatch):
    recipe = small_recipe("vae", "training.compile=auto")
    train(recipe, tmp_path)
    longer = small_recipe("vae", "training.compile=auto", "training.iterations=25")
    monkeypatch.setattr(compilation, "pays", lambda *_, **__: pytest.fail("asked a second time"))
    train(longer, tmp_path, resume=True)
    assert checkpoints.read_checkpoint(tmp_path / "checkpoint.pt").facts["compiled"] is False


@pytest.mark.parametrize("how", ["on", "auto"])
def test_a_machine_that_cannot_compile(how, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no C++ compiler\nmore about it")

    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr(compilation, "WORTH_A_TRIAL", 0.0)
    recipe = small_recipe("vae", f"training.compile={how}")
    if how == "auto":
        train(recipe, tmp_path)
        return
    with pytest.raises(UsageError, match=r"fails here: no C\+\+ compiler(\n|$)") as refused:
        train(recipe, tmp_path)
    assert "training.compile=off" in refused.value.hint


@pytest.mark.slow
@pytest.mark.parametrize("prior", PRIORS)
def test_the_real_compiler_and_a_resume_to_the_bit(prior, tmp_path):
    overrides = ("training.compile=on", f"prior={prior}")
    whole = train(small_recipe("factor", *overrides), tmp_path / "whole")
    train(small_recipe("factor", *overrides, "training.iterations=10"), tmp_path / "parts")
    parts = train(small_recipe("factor", *overrides), tmp_path / "parts", resume=True)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name]), name
    plain = train(small_recipe("factor", f"prior={prior}"), tmp_path / "plain")
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(tensor, plain.state_dict()[name], rtol=1e-3, atol=1e-4)

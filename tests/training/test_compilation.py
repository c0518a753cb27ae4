"""training.compile: a twin with the same weights, the same numbers, and nothing of it in a file."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.regularizers.base import weighted_loss
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.training import execution
from dpvae_cli.training.train import Trainer, train
from tests.small import OTHER_PRIORS, PRIORS, REGULARIZERS, small_recipe

CPU = torch.device("cpu")
on_off = pytest.mark.parametrize("compile", ["on", "off"])


@pytest.fixture(autouse=True)
def _traced_only(monkeypatch, request):
    """Trace and differentiate as torch.compile does, without a C++ compiler; but for slow tests."""
    if "slow" not in request.keywords:
        monkeypatch.setattr(execution, "BACKEND", "aot_eager")
    yield
    torch.compiler.reset()


@contextmanager
def trainer_of(*overrides: str, regularizer: str = "vae") -> Iterator[Trainer]:
    recipe = small_recipe(regularizer, *overrides)
    trainer = Trainer(recipe, recipe.data.load(), CPU)
    trainer.state.is_compiled = is_compiled = recipe.training.compile == "on"
    x = trainer.split.examples(slice(0, 16)).to(trainer.state.model.dtype)
    with execution.compile_networks(trainer.state.model, x) if is_compiled else nullcontext():
        yield trainer


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_losses_and_gradients_are_those_without(regularizer):
    options = ("training.precision=float64", f"prior={PRIORS[len(regularizer) % 2]}")
    seen = []
    for compile in ("off", "on"):
        with trainer_of(
            f"training.compile={compile}", *options, regularizer=regularizer
        ) as trainer:
            assert trainer.state.is_compiled == (compile == "on")
            losses = [weighted_loss(trainer.step()).item() for _ in range(2)]
            gradient = torch.cat([p.grad.flatten() for p in trainer.state.model.parameters()])
            seen.append((losses, gradient))
    (plain, plain_gradient), (quick, quick_gradient) = seen
    assert quick == pytest.approx(plain, rel=1e-10)
    torch.testing.assert_close(quick_gradient, plain_gradient, rtol=1e-8, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("prior", OTHER_PRIORS[2:])
def test_other_priors_compute_the_same_compiled(prior):
    seen = []
    for compile in ("off", "on"):
        options = (f"training.compile={compile}", "training.precision=float64", f"prior={prior}")
        with trainer_of(*options) as trainer:
            seen.append([weighted_loss(trainer.step()).item() for _ in range(2)])
    assert seen[1] == pytest.approx(seen[0], rel=1e-10)


def test_the_decoupled_prior_is_compiled_too(monkeypatch):
    seen = []
    original = torch.compile

    def noting(what, **options):
        seen.append(getattr(what, "__name__", type(what).__name__))
        return original(what, **options)

    monkeypatch.setattr(torch, "compile", noting)
    with trainer_of("training.compile=on") as trainer:
        trainer.step()
    assert {"to_generation", "to_representation", "Encoder", "Sequential"} <= set(seen)


@pytest.mark.slow
def test_a_checkpoint_has_the_same_names(tmp_path):
    names = {}
    for compile in ("on", "off"):
        with trainer_of(f"training.compile={compile}", "training.ema=0.9") as trainer:
            trainer.step()
            trainer.checkpoint().write(tmp_path / f"{compile}.pt")
            saved = checkpoints.read_checkpoint(tmp_path / f"{compile}.pt")
            names[compile] = saved.tensors.keys()
            assert saved.facts["compiled"] == (compile == "on")
    assert names["on"] == names["off"]


@pytest.mark.parametrize(
    ("setting", "device", "processes", "expected"),
    [
        ("on", "cpu", 2, True),
        ("off", "cuda", 1, False),
        ("auto", "cpu", 1, False),
        ("auto", "cuda", 1, True),
        ("auto", "cuda", 2, False),
    ],
)
def test_auto_compiles_on_a_single_gpu(setting, device, processes, expected):
    chosen = execution.should_compile(setting, torch.device(device), processes=processes)
    assert chosen is expected


def test_training_leaves_a_plain_model(tmp_path):
    model = train(small_recipe("vae", "training.compile=on"), tmp_path)
    assert model.encoder._compiled_call_impl is None
    assert "to_generation" not in vars(model.prior)
    draws = torch.get_rng_state()
    train(small_recipe("vae", "training.compile=on"), tmp_path / "again")
    assert torch.equal(torch.get_rng_state(), draws)


def test_a_machine_that_cannot_compile(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no C++ compiler\nmore about it")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(UsageError, match=r"fails here: no C\+\+ compiler(\n|$)") as refused:
        train(small_recipe("vae", "training.compile=on"), tmp_path)
    assert "training.compile=off" in refused.value.hint


@pytest.mark.slow
@pytest.mark.parametrize("prior", PRIORS)
def test_the_real_compiler_and_a_resume_to_the_bit(prior, tmp_path):
    overrides = ("training.compile=on", f"prior={prior}")
    whole = train(small_recipe("factor", *overrides), tmp_path / "whole")
    train(small_recipe("factor", *overrides, "training.iterations=10"), tmp_path / "parts")
    parts = train(small_recipe("factor", *overrides), tmp_path / "parts", mode="resume")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name]), name
    plain = train(small_recipe("factor", f"prior={prior}"), tmp_path / "plain")
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(tensor, plain.state_dict()[name], rtol=1e-3, atol=1e-4)

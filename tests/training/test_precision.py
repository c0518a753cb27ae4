"""What runs in which precision, against the same model in float64."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import dpvae_cli as dpvae
from dpvae_cli.evaluation.evaluate import evaluate
from dpvae_cli.foundation import devices
from dpvae_cli.foundation.devices import Precision
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.mathematics.gaussian import DiagonalGaussian
from dpvae_cli.model import build
from dpvae_cli.recipe import Recipe, load_recipe
from dpvae_cli.recipe.loading import with_overrides
from dpvae_cli.regularizers.base import weighted_loss
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.runs.loaded_run import load_run
from dpvae_cli.sampling.samples import encode
from dpvae_cli.training.train import Trainer, train
from tests.small import SMALL, small_recipe

CPU = torch.device("cpu")
TYPES = {"float32": torch.float32, "bf16": torch.float32, "float64": torch.float64}
each_precision = pytest.mark.parametrize("precision", TYPES)


def conv_recipe(folder, kind: str, side: int, *more: str) -> Recipe:
    """Return a recipe of random images under one of the convolutional pairs."""
    values = np.random.default_rng(0).integers(0, 256, (24, 3, side, side), dtype=np.uint8)
    np.save(folder / "x.npy", values)
    return small_recipe(
        "factor",
        f"data={{kind: arrays, path: {folder}/x.npy}}",
        f"architecture={{kind: {kind}, latent_dim: 2}}",
        "training.batch_size=8",
        *more,
    )


def trainer_of(recipe: Recipe, precision: str) -> Trainer:
    chosen = with_overrides(recipe, [f"training.precision={precision}"])
    return Trainer(chosen, chosen.data.load(), CPU)


def loss_and_gradient(recipe: Recipe, precision: str, z: torch.Tensor):
    """Return the negative ELBO of the first examples with the codes given, and its gradient."""
    chosen = Precision(precision, CPU)
    data = recipe.data.load()
    model = chosen.place(build(recipe, example_shape=data.example_shape))
    x, z = chosen.batch(data.train.examples(slice(0, len(z)))), z.to(model.dtype)
    with chosen.autocast():
        encoded, decoded = model.encode(x), model.decoder(z)
    posterior = DiagonalGaussian(encoded.mean.to(x.dtype), encoded.log_variance.to(x.dtype))
    log_likelihood = model.likelihood.log_prob(x, decoded.to(x.dtype))
    loss = (model.prior.kl(posterior, z) - log_likelihood).mean()
    loss.backward()
    gradient = torch.cat([p.grad.double().flatten() for p in model.parameters()])
    return loss.item(), gradient


@pytest.mark.parametrize(("kind", "side"), [("mlp", 0), ("conv", 8), ("svhn_conv", 32)])
def test_losses_and_gradients_are_those_of_float64(kind, side, tmp_path):
    recipe = small_recipe() if kind == "mlp" else conv_recipe(tmp_path, kind, side)
    z = torch.randn(8, 2, dtype=torch.float64)
    exact, direction = loss_and_gradient(recipe, "float64", z)
    for precision, least, most in (("float32", 0.0, 1e-5), ("bf16", 1e-7, 0.02)):
        loss, gradient = loss_and_gradient(recipe, precision, z)
        assert least <= abs(loss / exact - 1) < most, precision
        assert torch.isfinite(gradient).all()
        assert torch.cosine_similarity(gradient, direction, dim=0) > 1 - 3 * most


def test_bf16_learns_as_float32_does():
    """The noise is the same, so the runs stay together for a while."""
    recipe = small_recipe("beta_tc")
    one, other = trainer_of(recipe, "float32"), trainer_of(recipe, "bf16")
    for _ in range(30):
        losses = [float(weighted_loss(trainer.step()).detach()) for trainer in (one, other)]
        assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[0] != losses[1]


@contextmanager
def recorded(trainer: Trainer):
    """Note the types of everything between encoder and loss while the trainer steps."""
    seen = {"flow": set(), "likelihood": set(), "discriminator": set(), "layers": set()}

    def note(name, values):
        seen[name] |= {value.dtype for value in values}

    def spied(name, owner, method):
        original = getattr(owner, method)

        def spy(*arguments):
            result = original(*arguments)
            note(name, [*arguments, *(result if isinstance(result, tuple) else [result])])
            return result

        setattr(owner, method, spy)

    spied("flow", trainer.state.model.prior.bijection, "forward")
    spied("likelihood", trainer.state.model.likelihood, "log_prob")
    trainer.state.regularizer.adversary.network.register_forward_hook(
        lambda _, inputs, output: note("discriminator", [*inputs, output])
    )
    for layer in [*trainer.state.model.encoder.modules(), *trainer.state.model.decoder.modules()]:
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            layer.register_forward_hook(lambda _, __, output: note("layers", [output]))
    yield seen


@each_precision
def test_only_encoder_and_decoder_compute_in_bf16(precision, tmp_path):
    for recipe in (small_recipe("factor"), conv_recipe(tmp_path, "conv", 8)):
        trainer = trainer_of(recipe, precision)
        with recorded(trainer) as seen:
            trainer.step()
        wide = {TYPES[precision]}
        assert seen["flow"] == seen["likelihood"] == seen["discriminator"] == wide
        assert seen["layers"] == ({torch.bfloat16} if precision == "bf16" else wide)


@each_precision
def test_weights_moments_and_running_statistics(precision, tmp_path):
    trainer = trainer_of(conv_recipe(tmp_path, "svhn_conv", 32, "training.ema=0.9"), precision)
    trainer.step()
    tensors = trainer.checkpoint().tensors
    kept = {
        name: tensor.dtype
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not name.endswith(".step")
    }
    assert set(kept.values()) == {TYPES[precision]}
    starts = {name.partition(".")[0] for name in kept}
    assert starts == {"model", "ema", "regularizer", "optimizer", "adversary_optimizer"}
    assert any(name.endswith("running_var") for name in kept)


def test_a_bf16_run_starts_from_the_same_weights(tmp_path):
    recipe = conv_recipe(tmp_path, "conv", 8)
    states = [trainer_of(recipe, name).state.model.state_dict() for name in TYPES]
    for name, tensor in states[0].items():
        assert all(torch.equal(tensor.double(), other[name].double()) for other in states)


@each_precision
def test_a_checkpoint_opens_in_the_precision_of_its_run(precision, tmp_path):
    recipe = small_recipe("info", f"training.precision={precision}")
    trained = train(recipe, tmp_path / "run")
    for model in (dpvae.load(tmp_path / "run"), load_run(tmp_path / "run").model):
        assert model.dtype == TYPES[precision]
        for name, tensor in trained.state_dict().items():
            assert torch.equal(tensor, model.state_dict()[name])
        assert model.sample(3).dtype == TYPES[precision]


def test_metrics_of_float32_and_float64_agree(tmp_path):
    sizes = ["evaluation.samples=1500", "evaluation.nll_samples=300", "evaluation.nll_images=10"]
    recipe = small_recipe("vae", "training.iterations=100", *sizes)
    single = train(recipe, tmp_path / "run")
    saved = checkpoints.read_checkpoint(tmp_path / "run" / "checkpoint.pt")
    tensors = {name: tensor.double() for name, tensor in saved.tensors.items()}
    double = replace(
        saved, recipe=with_overrides(recipe, ["training.precision=float64"]), tensors=tensors
    )
    double.write(tmp_path / "double.pt")
    model, data = dpvae.load(tmp_path / "double.pt"), recipe.data.load()
    one, other = encode(single, data.train), encode(model, data.train)
    torch.testing.assert_close(one.mean.double(), other.mean, rtol=1e-4, atol=1e-5)
    results = [evaluate(m, data, ["all"], evaluation=recipe.evaluation) for m in (single, model)]
    for a, b in zip(*results, strict=True):
        assert a.metric == b.metric
        if a.value is not None and b.value is not None:
            error = (a.standard_error or 0) + (b.standard_error or 0)
            assert a.value == pytest.approx(b.value, abs=4 * error + 1e-6), a.metric


def test_a_device_without_float64_is_refused_before_anything_is_done(tmp_path, monkeypatch):
    recipe = small_recipe("vae", "training.precision=float64")
    train(recipe, tmp_path / "run")
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    monkeypatch.setattr(devices, "resolve", lambda name: torch.device("mps"))
    for attempt in (
        lambda: train(recipe, tmp_path / "run", mode="overwrite"),
        lambda: dpvae.load(tmp_path / "run"),
        lambda: load_run(tmp_path / "run"),
    ):
        with pytest.raises(UsageError, match=r"training\.precision") as caught:
            attempt()
        assert "--device cpu" in caught.value.hint
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before
    Precision("bf16", torch.device("mps"))


def test_binarised_data_in_every_precision(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (80, 4), dtype=np.uint8))
    small = [part for part in SMALL if not part.startswith("data.")]
    data = f"data={{kind: arrays, path: {tmp_path}/x.npy, binarize: dynamic}}"
    recipe = load_recipe("vae_moons", [*small, data, "likelihood=bernoulli"])
    steps = {name: trainer_of(recipe, name).step() for name in TYPES}
    losses = {name: terms["reconstruction"].value.detach() for name, terms in steps.items()}
    assert {name: loss.dtype for name, loss in losses.items()} == TYPES
    assert float(losses["bf16"].mean()) == pytest.approx(float(losses["float32"].mean()), rel=0.02)


@each_precision
def test_convolutions_compute_channels_last(precision, tmp_path):
    trainer = trainer_of(conv_recipe(tmp_path, "svhn_conv", 32), precision)
    trainer.step()
    [*convolutions] = [m for m in trainer.state.model.modules() if isinstance(m, nn.Conv2d)]
    assert convolutions
    for convolution in convolutions:
        weight = convolution.weight
        moments = trainer.state.optimizer.state[weight]
        for tensor in (weight, weight.grad, moments["exp_avg"], moments["exp_avg_sq"]):
            assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert all(weight.is_contiguous() for weight in trainer.state.model.prior.parameters())

"""The moving average of the weights against a sum over all weights there were."""

import numpy as np
import pytest
import torch

import dpvae_cli as dpvae
from dpvae_cli.evaluation.kl import validate
from dpvae_cli.plotting import samples
from dpvae_cli.recipe.loading import with_overrides
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.runs.loaded_run import load_run
from dpvae_cli.training.train import Trainer, train
from tests.small import small_recipe

CPU = torch.device("cpu")


def shares(decay: float, steps: int) -> list[float]:
    """Return how much the initial weights and those of each step make up of the average."""
    decays = [min(decay, (1 + t) / (10 + t)) for t in range(1, steps + 1)]
    taken = [1.0] + [1 - d for d in decays]
    return [own * float(np.prod(decays[start:])) for start, own in enumerate(taken)]


def flat(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("regularizer", ["vae", "factor"])
@pytest.mark.parametrize("decay", [0.3, 0.5, 0.9999])
def test_the_average_is_the_sum_over_all_weights(decay, regularizer):
    more = ("training.precision=float64", "likelihood.learned=true", "training.learning_rate=0.05")
    recipe = small_recipe(regularizer, *more, f"training.ema={decay}")
    trainer = Trainer(recipe, recipe.data.load(), CPU)
    weights = [flat(trainer.state.model)]
    for step in range(1, 15):
        trainer.step()
        weights.append(flat(trainer.state.model))
        share = shares(decay, step)
        assert sum(share) == pytest.approx(1)
        expected = sum(s * w for s, w in zip(share, weights, strict=True))
        torch.testing.assert_close(
            flat(trainer.state.trained_model), expected, rtol=1e-12, atol=1e-12
        )
    assert not torch.allclose(weights[-1], flat(trainer.state.trained_model), rtol=1e-3)


def test_the_warm_up_forgets_the_initial_weights():
    assert shares(0.9999, 100)[0] < 1e-9
    assert 0.9999**100 > 0.99, "without the warm-up they would be nearly all of it"


def test_the_average_changes_no_training():
    plain = small_recipe("factor")
    averaged = with_overrides(plain, ["training.ema=0.9"])
    trainers = [Trainer(recipe, recipe.data.load(), CPU) for recipe in (plain, averaged)]
    for trainer in trainers:
        for _ in range(5):
            trainer.step()
    assert torch.equal(*(flat(trainer.state.model) for trainer in trainers))
    state = trainers[0].state
    assert state.trained_model is state.model


def test_running_statistics_are_copied(tmp_path):
    """Those of batch norm, which the factor regularizer's second batch moves too."""
    values = np.random.default_rng(0).integers(0, 256, (20, 3, 32, 32), dtype=np.uint8)
    np.save(tmp_path / "x.npy", values)
    recipe = small_recipe(
        "factor",
        f"data={{kind: arrays, path: {tmp_path}/x.npy}}",
        "architecture={kind: svhn_conv, latent_dim: 2}",
        *("training.batch_size=4", "training.ema=0.9"),
    )
    trainer = Trainer(recipe, recipe.data.load(), CPU)
    for _ in range(2):
        trainer.step()
    buffers = dict(trainer.state.trained_model.named_buffers())
    assert int(buffers["encoder.network.1.num_batches_tracked"]) == 4
    for name, buffer in trainer.state.model.named_buffers():
        assert torch.equal(buffer, buffers[name]), name


def test_everything_after_a_step_uses_the_average(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(samples, "save_picture", lambda path, decoded, **_: drawn.append(decoded))
    recipe = small_recipe("vae", "training.ema=0.9", "training.learning_rate=0.05")
    model = train(recipe, tmp_path / "run")
    saved = checkpoints.read_checkpoint(tmp_path / "run" / "checkpoint.pt")
    raw, averaged = saved.part("model"), saved.part("ema")
    assert raw.keys() == averaged.keys()
    assert any(not torch.equal(raw[name], averaged[name]) for name in raw)
    for used in (model, dpvae.load(tmp_path / "run"), load_run(tmp_path / "run").model):
        assert not used.training
        for name, tensor in used.state_dict().items():
            assert torch.equal(tensor, averaged[name]), name
    record = validate(model, recipe.data.load(), seed=recipe.seed)
    last = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1]
    assert f'"elbo": {record["elbo"]}' in last
    loop_picture = drawn[0]
    train(with_overrides(recipe, ["training.ema=null"]), tmp_path / "raw")
    assert not np.array_equal(loop_picture, drawn[1])

"""Runs of encoders and decoders of the caller's own: trained, resumed, loaded, evaluated."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import dpvae_cli as dpvae
from dpvae_cli.foundation.errors import CheckpointError, InterruptedRun, UsageError
from dpvae_cli.foundation.serialization import unpack_tensors
from dpvae_cli.priors import DecoupledPrior, StandardNormalPrior
from dpvae_cli.recipe import to_dict
from dpvae_cli.runs import checkpoint as checkpoints
from tests.small import PRIORS, PairEncoder, own_networks, own_vae, small_recipe
from tests.training.test_resume import CutAt, PowerCut, assert_same_run

PARTS = {"likelihood": dpvae.Gaussian(scale=0.3), "prior": dpvae.Decoupled(blocks=2, hidden=8)}
RECIPE = small_recipe()
COUPLING = dpvae.Decoupled().build(2).bijection
X = torch.linspace(-1, 1, 10).view(5, 2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "run"
    return dpvae.train(RECIPE, folder, model=own_vae(**PARTS)), folder


def test_the_given_model_itself_is_trained(tmp_path):
    model = own_vae(**PARTS)
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    assert dpvae.train(RECIPE, tmp_path / "run", model=model.eval()) is model
    assert not model.training
    assert model.example_shape == (2,)
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, before[name]), name


def test_the_run_folder_says_what_was_trained(trained):
    """The recipe that is kept has the model's likelihood and prior, and no architecture."""
    _, folder = trained
    kept = dpvae.load_recipe(folder / "recipe.yaml")
    assert (kept.architecture.kind, kept.architecture.latent_dim) == ("own", 2)
    assert (kept.likelihood, kept.prior) == (PARTS["likelihood"], PARTS["prior"])
    replaced = ("architecture", "likelihood", "prior")
    asked, found = to_dict(RECIPE), to_dict(kept)
    assert {k: v for k, v in found.items() if k not in replaced} == {
        k: v for k, v in asked.items() if k not in replaced
    }
    for name in ("checkpoint.pt", "best.pt"):
        saved = checkpoints.read_checkpoint(folder / name)
        assert to_dict(saved.recipe) == found
        assert saved.recipe.name == "vae_moons"
        assert saved.facts["own_model"] == {
            "encoder": {"class": "tests.small.PairEncoder", "parameters": 3 * 8 + 2 * 9 * 2},
            "decoder": {
                "class": "torch.nn.modules.container.Sequential",
                "parameters": 3 * 8 + 2 * 8 + 9 * 2,
            },
        }


def test_ordinary_checkpoints_say_nothing_of_own_models(tmp_path):
    dpvae.train(RECIPE, tmp_path / "run")
    assert "own_model" not in checkpoints.read_checkpoint(tmp_path / "run" / "checkpoint.pt").facts


def test_load_gives_the_trained_model_back(trained):
    model, folder = trained
    for path in (folder, folder / "checkpoint.pt", str(folder)):
        networks = own_networks(seed=9)
        loaded = dpvae.load(path, **networks)
        assert loaded.encoder is networks["encoder"]
        assert not loaded.training
        assert loaded.example_shape == (2,)
        assert loaded.state_dict().keys() == model.state_dict().keys()
        assert all(torch.equal(t, model.state_dict()[k]) for k, t in loaded.state_dict().items())
        assert (loaded.prior.spec, loaded.likelihood.spec) == (PARTS["prior"], PARTS["likelihood"])
        assert torch.equal(loaded.encode(X).mean, model.encode(X).mean)
    one, other = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    assert torch.equal(loaded.sample(4, generator=one), model.sample(4, generator=other))


def test_no_module_is_pickled(trained):
    meta, tensors = unpack_tensors((trained[1] / "checkpoint.pt").read_bytes())
    assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
    assert meta["recipe"]["architecture"]["kind"] == "own"


class Other(nn.Sequential):
    """A network with other names of weights."""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, r"encoder \(PairEncoder, 60 parameters\) and decoder \(Sequential, 58 parameters\)"),
        ({"encoder": PairEncoder()}, r"open it in Python: dpvae\.load"),
        ({"decoder": own_networks()["decoder"]}, r"open it in Python: dpvae\.load"),
        (
            own_networks(width=9),
            r"encoder given .* mean.weight is \(2, 9\), \(2, 8\) in the checkpoint",
        ),
        (own_networks() | {"decoder": Other(nn.Linear(2, 2))}, "decoder given .* it has no 1.bias"),
        (
            own_networks() | {"encoder": nn.Sequential(PairEncoder())},
            "encoder given .* it has no body.0.bias; .*; and 8 more",
        ),
    ],
    ids=["nothing", "encoder alone", "decoder alone", "wide", "shallow", "wrapped"],
)
def test_load_refuses_other_networks(trained, given, said):
    with pytest.raises(CheckpointError, match=said) as caught:
        dpvae.load(trained[1], **given)
    assert str(trained[1] / "checkpoint.pt") in str(caught.value)


def test_a_network_that_is_refused_keeps_its_weights(trained):
    networks = own_networks() | {"decoder": Other(nn.Linear(2, 2))}
    before = [parameter.clone() for parameter in networks["encoder"].parameters()]
    with pytest.raises(CheckpointError):
        dpvae.load(trained[1], **networks)
    after = networks["encoder"].parameters()
    assert all(map(torch.equal, before, after))


def test_load_refuses_networks_for_an_ordinary_checkpoint(tmp_path):
    dpvae.train(RECIPE, tmp_path / "run")
    for given in (own_networks(), {"encoder": PairEncoder()}):
        with pytest.raises(CheckpointError, match=r"architecture mlp.*none can be given") as caught:
            dpvae.load(tmp_path / "run", **given)
        assert "dpvae.load(" in caught.value.hint


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("regularizer", ["beta_h", "factor"])
def test_a_cut_run_resumes_to_the_bit(regularizer, prior, tmp_path):
    """Dropout and batch norm included; the resuming model's first weights do not matter."""
    recipe = small_recipe(regularizer)
    dpvae.train(recipe, tmp_path / "whole", model=own_vae(prior=prior))
    with pytest.raises(PowerCut):
        dpvae.train(recipe, tmp_path / "cut", model=own_vae(prior=prior), callback=CutAt(13))
    torch.manual_seed(5)
    fresh = own_vae(prior=prior, seed=6)
    dpvae.train(recipe, tmp_path / "cut", model=fresh, mode="resume")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_frozen_weights_stay_and_resume(tmp_path):
    def model():
        made = own_vae(prior="standard_normal")
        made.encoder.body.requires_grad_(requires_grad=False)
        return made

    first = model().encoder.body[0].weight.clone()
    whole = dpvae.train(RECIPE, tmp_path / "whole", model=model())
    assert torch.equal(whole.encoder.body[0].weight, first)
    with pytest.raises(PowerCut):
        dpvae.train(RECIPE, tmp_path / "cut", model=model(), callback=CutAt(13))
    dpvae.train(RECIPE, tmp_path / "cut", model=model(), mode="resume")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_the_caller_s_own_draws_are_left_alone(tmp_path):
    model = own_vae()
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    dpvae.train(RECIPE, tmp_path / "run", model=model)
    assert torch.equal(torch.rand(3), expected)


def test_a_run_of_own_networks_resumes_with_a_model_alone(trained, tmp_path):
    _, folder = trained
    for recipe in (RECIPE, dpvae.load_recipe(folder / "recipe.yaml")):
        with pytest.raises(CheckpointError) as caught:
            dpvae.train(recipe, folder, mode="resume")
        call = f"dpvae.train(recipe, {str(folder)!r}, model=..., mode='resume')"
        assert call in str(caught.value)
    with pytest.raises(CheckpointError, match=r"encoder given .* other weights"):
        dpvae.train(RECIPE, folder, model=own_vae(width=9, **PARTS), mode="resume")
    other = own_vae(**PARTS | {"likelihood": dpvae.Gaussian(scale=0.5)})
    with pytest.raises(UsageError, match=r"likelihood.scale is 0.3 in the run, 0.5 was asked"):
        dpvae.train(RECIPE, folder, model=other, mode="resume")
    dpvae.train(RECIPE, tmp_path / "ordinary")
    with pytest.raises(CheckpointError, match="no model can be given"):
        dpvae.train(RECIPE, tmp_path / "ordinary", model=own_vae(), mode="resume")


def test_a_run_cut_before_its_first_checkpoint_asks_for_the_model_too(tmp_path):
    with pytest.raises(PowerCut):
        dpvae.train(RECIPE, tmp_path / "cut", model=own_vae(**PARTS), callback=CutAt(3))
    with pytest.raises(CheckpointError, match=r"model=\.\.\., mode='resume'"):
        dpvae.train(RECIPE, tmp_path / "cut", mode="resume")
    dpvae.train(RECIPE, tmp_path / "cut", model=own_vae(**PARTS), mode="resume")
    dpvae.train(RECIPE, tmp_path / "whole", model=own_vae(**PARTS))
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_stopped_run_names_the_call_that_goes_on(tmp_path):
    class Stop(CutAt):
        def on_step(self, iteration):
            if iteration == 7:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedRun) as caught:
        dpvae.train(RECIPE, tmp_path / "run", model=own_vae(), callback=Stop(7))
    assert f"dpvae.train(recipe, '{tmp_path}/run', model=..., mode='resume')" in caught.value.hint


class Counting(PairEncoder):
    """Counts what it is asked for."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


class Wide(PairEncoder):
    """Returns a mean of wrong shape."""

    def forward(self, x):
        mean, log_variance = super().forward(x)
        return torch.cat([mean, mean], dim=1), log_variance


def test_the_model_is_checked_once_before_training(tmp_path):
    with pytest.raises(UsageError, match=r"mean has shape \(16, 4\), expected \(16, 2\)"):
        dpvae.train(RECIPE, tmp_path / "wrong", model=own_vae(encoder=Wide()))
    assert not (tmp_path / "wrong" / "metrics.jsonl").exists()
    encoder = Counting()
    recipe = small_recipe("vae", "training.validate_every=20")
    dpvae.train(recipe, tmp_path / "run", model=own_vae(encoder=encoder))
    validation = 2  # the held-out examples, and the codes of its sKL
    assert encoder.calls == 1 + 20 + validation


class Remembers(PairEncoder):
    """Has state that is not a tensor."""

    def get_extra_state(self):
        return {"words": "no tensor"}

    def set_extra_state(self, state):
        pass


@pytest.mark.parametrize(
    ("overrides", "parts", "said"),
    [
        (["architecture={kind: own, latent_dim: 3}"], {}, "3 in the recipe, the model has 2"),
        ([], {"prior": DecoupledPrior(COUPLING, StandardNormalPrior(2))}, "has no spec"),
        ([], {"likelihood": "bernoulli"}, "bernoulli needs data of 0 and 1"),
        ([], {"example_shape": (3,)}, r"of shape \(3,\), these have \(2,\)"),
        ([], {"encoder": Remembers()}, "encoder._extra_state is a dict"),
    ],
    ids=["latent_dim", "prior by hand", "likelihood", "example_shape", "state"],
)
def test_what_contradicts_is_refused(overrides, parts, said, tmp_path):
    recipe = dpvae.load_recipe("vae_moons", overrides)
    with pytest.raises(UsageError, match=said):
        dpvae.train(recipe, tmp_path / "run", model=own_vae(**parts))
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float64", torch.float64), ("bf16", torch.float32)]
)
def test_own_networks_train_and_load_in_the_precision_of_the_run(precision, dtype, tmp_path):
    """Whatever type the parts came in: the likelihood given is double here, the rest is not."""
    recipe = small_recipe("vae", f"training.precision={precision}")
    parts = PARTS | {"likelihood": dpvae.Gaussian(scale=0.3).build().double()}
    model = dpvae.train(recipe, tmp_path / "run", model=own_vae(**parts))
    loaded = dpvae.load(tmp_path / "run", **own_networks(seed=9))
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    assert {p.dtype for p in loaded.parameters()} == {dtype}
    data = recipe.data.load()
    [result] = dpvae.evaluate(loaded, data, ["active_units"], evaluation=recipe.evaluation)
    assert result.metric == "active_units"


def test_an_average_is_a_copy_beside_the_given_model(tmp_path):
    model = own_vae(**PARTS)
    recipe = small_recipe("vae", "training.ema=0.9")
    averaged = dpvae.train(recipe, tmp_path / "run", model=model)
    assert averaged is not model
    loaded = dpvae.load(tmp_path / "run", **own_networks(seed=9))
    for name, tensor in loaded.named_parameters():
        assert torch.equal(tensor, averaged.get_parameter(name)), name
        assert not torch.equal(tensor, model.get_parameter(name)), name


def test_a_recipe_of_own_networks_needs_the_model(tmp_path):
    small, run = ["training.iterations=2", "data.train=300"], tmp_path / "run"
    dpvae.train(dpvae.load_recipe("vae_moons", small), run)
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    with pytest.raises(UsageError, match="exist in Python alone"):
        dpvae.train(
            dpvae.load_recipe("vae_moons", ["architecture=own", *small]), run, mode="overwrite"
        )
    assert {path: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_the_word_own_leaves_the_size_to_the_model(tmp_path):
    small = ["training.iterations=4", "data.train=50", "training.batch_size=8"]
    recipe = dpvae.load_recipe("vae_moons", ["architecture=own", *small])
    dpvae.train(recipe, tmp_path / "run", model=own_vae(3))
    assert dpvae.load_recipe(tmp_path / "run" / "recipe.yaml").architecture.latent_dim == 3


def test_lazy_networks_train_and_load(tmp_path):
    def decoder():
        return nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.LazyLinear(2))

    model = dpvae.train(RECIPE, tmp_path / "run", model=own_vae(decoder=decoder()))
    loaded = dpvae.load(tmp_path / "run", encoder=PairEncoder(), decoder=decoder())
    z = torch.zeros(3, 2)
    assert torch.equal(loaded.decode(z), model.decode(z))


def test_own_models_are_evaluated(trained):
    model, folder = trained
    data = RECIPE.data.load()
    metrics = ["skl", "nll", "leak", "elbo", "active_units", "manifold"]
    results = dpvae.evaluate(model, data, metrics, evaluation=RECIPE.evaluation)
    loaded = dpvae.load(folder, **own_networks())
    again = dpvae.evaluate(loaded, data, metrics, evaluation=RECIPE.evaluation)
    assert [r.value for r in results] == [r.value for r in again]


def test_a_model_never_trained_here_is_evaluated_in_evaluation_mode():
    """Dropout is off and running means stay, whatever mode the model comes in."""
    model, data = own_vae(), RECIPE.data.load()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def once():
        return dpvae.evaluate(model, data, ["elbo", "skl"], evaluation=RECIPE.evaluation)

    assert once() == once()
    assert model.training
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    wrong = own_vae(decoder=nn.Linear(3, 2))
    with pytest.raises(UsageError, match="decoder fails on a tensor"):
        dpvae.evaluate(wrong, data, ["skl"], evaluation=RECIPE.evaluation)


def test_a_decoder_that_ends_with_a_sigmoid_has_to_say_so(tmp_path, monkeypatch):
    """Nothing is trained on probabilities taken for logits; said, they come out as the data are."""
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).random((120, 6)) < [0.05, 0.95, 0.05, 0.95, 0.05, 0.95]
    np.save("x.npy", rows.astype(np.float32))
    recipe = small_recipe(
        "vae",
        "data={kind: arrays, path: x.npy}",
        "training.iterations=200",
        "training.learning_rate=0.03",
        "training.checkpoint_every=200",
        "training.validate_every=200",
    )

    def networks():
        parts = own_networks(2, 6)
        return parts | {"decoder": nn.Sequential(parts["decoder"], nn.Sigmoid())}

    with pytest.raises(UsageError, match="second sigmoid"):
        dpvae.train(recipe, "wrong", model=own_vae(**networks(), likelihood="bernoulli"))
    assert not Path("wrong/checkpoint.pt").exists()
    said = dpvae.Bernoulli(probabilities=True)
    dpvae.train(recipe, "run", model=own_vae(**networks(), likelihood=said))
    model = dpvae.load("run", **networks())
    assert model.likelihood.spec == said
    means = model.sample(500).mean(dim=0)
    assert (means[::2] < 0.25).all()
    assert (means[1::2] > 0.75).all()

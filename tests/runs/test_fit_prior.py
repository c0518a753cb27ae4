"""A prior fitted to a trained run: what is kept, what stays, and how the run goes on."""

import json

import pytest
import torch

import dpvae_cli as dpvae
from dpvae_cli.foundation.errors import CheckpointError, UsageError
from dpvae_cli.recipe import to_dict
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.runs.fit_prior import default_fit_dir, fit_run
from dpvae_cli.runs.loaded_run import load, load_run
from dpvae_cli.training.train import train
from tests.small import own_vae, small_recipe

FIT = ("fitting.iterations=6", "fitting.batch_size=16", "fitting.validate_every=2")
PLAIN = ("prior=standard_normal", *FIT)


def tensors(path, *parts):
    """Return the tensors of a checkpoint whose names begin with one of the parts."""
    found = checkpoints.read_checkpoint(path).tensors
    return {name: tensor for name, tensor in found.items() if name.startswith(parts)}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def trained(tmp_path):
    """Return the folder of a run with the standard normal prior."""
    folder = tmp_path / "run"
    train(small_recipe("beta_h", *PLAIN), folder)
    return folder


def test_encoder_and_decoder_stay_as_they_are(trained):
    folder, record = fit_run(trained, "spline")
    assert folder.path == trained.with_name("run-fit_spline")
    before, after = (tensors(f / "checkpoint.pt", "model") for f in (trained, folder.path))
    assert same(before, after)
    model, original = load(folder.path), load(trained)
    x = torch.randn(5, 2)
    assert torch.equal(model.encode(x).mean, original.encode(x).mean)
    assert torch.equal(model.decode(x), original.decode(x))
    assert (model.prior.spec.kind, original.prior.spec.kind) == ("spline", "standard_normal")
    assert json.loads(folder.fit.read_text()) == json.loads(json.dumps(record.to_dict()))
    assert record.baseline == "standard_normal"


def test_the_new_run_says_what_it_is(trained):
    folder, _ = fit_run(trained, "{kind: mixture, components: 3}", ["fitting.held_out=0.25"])
    run = load_run(folder.path)
    assert run.recipe.prior_name == "standard_normal, then mixture"
    assert run.recipe.fit_prior == dpvae.Mixture(components=3)
    assert to_dict(dpvae.load_recipe(folder.recipe)) == to_dict(run.recipe)
    assert run.recipe.fitting.held_out == 0.25
    lines = [json.loads(line) for line in folder.metrics_log.read_text().splitlines()]
    assert [line["kind"] for line in lines][-1] == "fit"
    assert lines[:-1] == [
        json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()
    ]
    assert {"checkpoint.pt", "fit.json", "samples.png"} <= {p.name for p in folder.path.iterdir()}


def test_the_components_that_a_fit_has_chosen_are_loaded_again(trained, tmp_path):
    folder, record = fit_run(trained, "{kind: mixture, covariance: full}")
    assert record.spec["components"] != 50
    prior = load(folder.path).prior
    assert len(prior.prior.logits) == record.spec["components"]
    assert load_run(folder.path).recipe.fit_prior == dpvae.Mixture(covariance="full")
    again = train(load_run(folder.path).recipe, folder.path, mode="resume")
    z = torch.randn(4, 2)
    assert torch.equal(again.prior.log_prob(z), prior.log_prob(z))


def test_a_checkpoint_from_before_codes_were_standardised_is_read(trained):
    """Its fitted prior has no layer of mean and deviation, and its record no section."""
    folder, record = fit_run(trained, "decoupled")
    found = checkpoints.read_checkpoint(folder.checkpoint)
    inner = load(folder.path).prior.prior
    old = {name: v for name, v in record.to_dict().items() if name not in ("spec", "reported")}
    found.with_fitted(inner, old).write(folder.checkpoint)
    z = torch.randn(4, 2)
    assert torch.equal(load(folder.path).prior.log_prob(z), inner.log_prob(z))


def test_another_prior_of_a_fitted_run_is_held_against_the_one_it_has(trained):
    folder, first = fit_run(trained, "{kind: mixture, components: 2}")
    _, second = fit_run(folder.path, "{kind: mixture, components: 2}", run_dir=trained / "b")
    assert (first.baseline, second.baseline) == ("standard_normal", "mixture")
    assert second.gain == (0.0, 0.0)
    assert second.nll == first.nll


def test_a_model_with_a_fitted_prior_trains_on_and_is_loaded_again(tmp_path):
    """The layer of mean and deviation goes along, as what it is: no parameter."""
    mine = own_vae(prior="standard_normal")
    mean, log_variance = torch.randn(200, 2) * 30, torch.zeros(200, 2)
    fitted = dpvae.fit_prior(mean, log_variance, fitting=dpvae.Fitting(iterations=2))
    recipe = small_recipe("vae", "prior=standard_normal")
    model = train(recipe, tmp_path / "run", model=mine.with_prior(fitted.prior))
    again = load(tmp_path / "run", **{k: getattr(mine, k) for k in ("encoder", "decoder")})
    z = torch.randn(4, 2)
    assert torch.equal(again.prior.log_prob(z), model.prior.log_prob(z))
    assert torch.equal(again.prior.deviation, fitted.prior.deviation)


def test_its_codes_are_kept_and_need_no_data(trained, monkeypatch):
    folder, _ = fit_run(trained, "decoupled")

    def refuse():
        raise AssertionError("the data was read")

    run = load_run(folder.path, load_dataset=refuse)
    original = load_run(trained)
    ours, theirs = (r.encoded.aggregate_posterior() for r in (run, original))
    assert torch.equal(ours.mean, theirs.mean)
    assert torch.equal(ours.log_variance, theirs.log_variance)


def test_training_with_fit_prior_is_training_and_then_fitting(trained, tmp_path):
    """The recipe's way and the command's way give the same weights, bit for bit."""
    recipe = small_recipe("beta_h", *PLAIN, "fit_prior=decoupled")
    model = train(recipe, tmp_path / "both")
    folder, _ = fit_run(trained, "decoupled")
    parts = ("model.", "fitted.")
    ours, theirs = (tensors(f / "checkpoint.pt", *parts) for f in (tmp_path / "both", folder.path))
    assert same(ours, theirs)
    assert any(name.startswith("fitted.") for name in ours)
    z = torch.randn(4, 2)
    assert torch.equal(model.prior.log_prob(z), load(folder.path).prior.log_prob(z))


def test_a_fitted_run_goes_on_and_is_fitted_again(tmp_path):
    short = small_recipe("vae", *PLAIN, "fit_prior=decoupled", "training.iterations=10")
    longer = small_recipe("vae", *PLAIN, "fit_prior=decoupled", "training.iterations=20")
    train(short, tmp_path / "resumed")
    train(longer, tmp_path / "resumed", mode="resume")
    train(longer, tmp_path / "whole")
    ours, theirs = (
        checkpoints.read_checkpoint(tmp_path / f / "checkpoint.pt").tensors
        for f in ("resumed", "whole")
    )
    assert same(ours, theirs)


def test_a_finished_run_is_left_alone(tmp_path):
    recipe = small_recipe("vae", *PLAIN, "fit_prior=decoupled")
    train(recipe, tmp_path / "run")
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    model = train(recipe, tmp_path / "run", mode="resume")
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before
    assert model.prior.spec.kind == "decoupled"


def test_a_run_stopped_between_training_and_fitting_is_completed(tmp_path, monkeypatch):
    recipe = small_recipe("vae", *PLAIN, "fit_prior=decoupled")
    train(recipe, tmp_path / "whole")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("dpvae_cli.runs.fit_prior.fit_recipe_prior", stop)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run")
    with pytest.raises(CheckpointError, match="fitted after the last") as raised:
        load(tmp_path / "run")
    assert "dpvae fit-prior" in raised.value.hint
    monkeypatch.undo()
    train(recipe, tmp_path / "run", mode="resume")
    ours, theirs = (
        checkpoints.read_checkpoint(tmp_path / f / "checkpoint.pt").tensors
        for f in ("run", "whole")
    )
    assert same(ours, theirs)


def test_the_best_state_can_be_fitted_too(tmp_path):
    train(small_recipe("vae", *PLAIN, "fit_prior=decoupled"), tmp_path / "run")
    with pytest.raises(CheckpointError, match="fitted after the last"):
        load_run(tmp_path / "run", best=True)
    folder, _ = fit_run(tmp_path / "run", "mixture", best=True)
    assert load(folder.path).prior.spec.kind == "mixture"


def test_averaged_weights_are_what_is_fitted_to(tmp_path):
    train(small_recipe("vae", *PLAIN, "training.ema=0.9"), tmp_path / "run")
    folder, record = fit_run(tmp_path / "run", "decoupled")
    run = load_run(folder.path)
    averaged = load_run(tmp_path / "run").encoded.aggregate_posterior()
    assert torch.equal(run.encoded.aggregate_posterior().mean, averaged.mean)
    assert record.components == 120


def test_a_vamp_prior_is_fitted_with_its_encoder(trained):
    folder, _ = fit_run(trained, "{kind: vamp, pseudo_inputs: 5}")
    model = load(folder.path)
    assert torch.isfinite(model.prior.log_prob(torch.randn(3, 2))).all()
    assert same(
        tensors(trained / "checkpoint.pt", "model"),
        tensors(folder.path / "checkpoint.pt", "model"),
    )


def test_own_networks_are_fitted_by_their_recipe(tmp_path):
    parts = [part for part in PLAIN if not part.startswith("architecture")]
    recipe = small_recipe("vae", *parts, "fit_prior=decoupled")
    mine = own_vae(prior="standard_normal")
    model = train(recipe, tmp_path / "run", model=mine)
    assert model.encoder is mine.encoder
    assert model.prior.spec.kind == "decoupled"
    again = load(tmp_path / "run", **{k: getattr(mine, k) for k in ("encoder", "decoder")})
    z = torch.randn(4, 2)
    assert torch.equal(again.prior.log_prob(z), model.prior.log_prob(z))
    with pytest.raises(CheckpointError, match="caller's own encoder"):
        fit_run(tmp_path / "run", "spline")


def test_what_is_in_the_way_is_not_touched(trained):
    folder, _ = fit_run(trained, "mixture")
    before = folder.checkpoint.read_bytes()
    with pytest.raises(UsageError, match="is not empty") as raised:
        fit_run(trained, "mixture")
    assert "--out" in raised.value.hint
    assert folder.checkpoint.read_bytes() == before
    fit_run(trained, "mixture", ["fitting.iterations=8"], overwrite=True)
    assert folder.checkpoint.read_bytes() != before
    with pytest.raises(UsageError, match="the folder of the model itself"):
        fit_run(trained, "mixture", run_dir=trained, overwrite=True)
    with pytest.raises(UsageError, match=r"only fitting\.KEY=VALUE may change"):
        fit_run(trained, "mixture", ["training.iterations=3"])
    assert (trained / "checkpoint.pt").is_file()


def test_a_fit_that_is_stopped_leaves_no_run(trained, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("dpvae_cli.runs.fit_prior.fit_recipe_prior", stop)
    with pytest.raises(KeyboardInterrupt):
        fit_run(trained, "decoupled")
    assert not trained.with_name("run-fit_decoupled").exists()


def test_a_fit_that_is_killed_while_it_commits_is_repeated(trained, monkeypatch):
    """The files in the folder are all its own, so they are replaced; anybody else's stay."""

    def killed(*_):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr("dpvae_cli.runs.fit_prior.update_latest_link", killed)
        with pytest.raises(SystemExit):
            fit_run(trained, "decoupled", mark_latest=True)
    new = trained.with_name("run-fit_decoupled")
    assert (new / "checkpoint.pt").is_file()
    (new / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        fit_run(trained, "decoupled")
    (new / "notes.txt").unlink()
    fit_run(trained, "decoupled")
    with pytest.raises(UsageError, match="is not empty"):
        fit_run(trained, "decoupled")


def test_folders_are_named_after_the_run(tmp_path):
    for name in ("run", "run-fit_spline"):
        path = tmp_path / name / "checkpoint.pt"
        assert default_fit_dir(path, "mixture") == tmp_path / "run-fit_mixture"

"""`dpvae export` and `dpvae.export`: files that run without dpvae compute what the model does."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from safetensors import safe_open
from torch import nn

import dpvae_cli as dpvae
from dpvae_cli.exporter import formats
from dpvae_cli.exporter.export import export_model
from dpvae_cli.exporter.formats import largest_difference
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.recipe import from_dict, load_recipe
from tests.cli.test_commands import ok, run
from tests.exporter.test_graphs import expected_outputs, model_of
from tests.small import SMALL

TINY = ("architecture.hidden=[8]", "prior.blocks=2", "prior.hidden=4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a run folder of moons."""
    path = tmp_path_factory.mktemp("export") / "run"
    ok("train", "beta_h_moons", *SMALL, *TINY, "--run-dir", str(path))
    return path


def test_an_onnx_file_has_a_dynamic_batch_and_its_difference_is_printed(folder, tmp_path):
    path = tmp_path / "sampler.onnx"
    done = ok("export", str(folder), "--to", str(path))
    assert done.stdout == f"{path}\n"
    assert "sampler.onnx: the largest difference from the model is" in done.stderr
    session, model = onnxruntime.InferenceSession(path), dpvae.load(folder)
    for n in (1, 5):
        z0 = torch.randn(n, 2)
        found = session.run(["z", "x"], {"z0": z0.numpy()})
        for each, expected in zip(found, expected_outputs(model, "sampler", z0), strict=True):
            np.testing.assert_allclose(each, expected, atol=1e-5)


def test_a_pt2_file_needs_no_class_of_the_model(folder, tmp_path):
    assert dpvae.export(folder, tmp_path / "density.pt2", what="model") == tmp_path / "density.pt2"
    program = torch.export.load(tmp_path / "density.pt2").module()
    model, z = dpvae.load(folder), torch.randn(7, 2)
    with torch.no_grad():
        found = program(z)
    for each, expected in zip(found, expected_outputs(model, "model", z), strict=True):
        np.testing.assert_allclose(each, expected, atol=1e-5)
    content = (tmp_path / "density.pt2").read_bytes()
    assert b"dpvae_cli/" not in content, "it names source files of this machine"


def test_weights_have_the_recipe_with_them(folder, tmp_path):
    ok("export", str(folder), "--to", str(tmp_path / "all.safetensors"))
    ok("export", str(folder), "--to", str(tmp_path / "some.safetensors"), "--what", "encoder")
    weights = dpvae.load(folder).state_dict()
    with safe_open(tmp_path / "all.safetensors", "pt") as file:
        facts = file.metadata()
        assert set(file.keys()) == set(weights)
        assert all(torch.equal(file.get_tensor(name), weights[name]) for name in weights)
    saved = load_recipe(str(folder / "recipe.yaml"))
    assert from_dict(yaml.safe_load(facts["recipe"]), name=saved.name) == saved
    assert json.loads(facts["example_shape"]) == [2]
    with safe_open(tmp_path / "some.safetensors", "pt") as file:
        assert set(file.keys()) == {name for name in weights if name.startswith("encoder.")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "x.onnx"], "its name does not say which part"),
        (["--to", "decoder.h5"], "exported as .onnx, .pt2 or .safetensors, not .h5"),
    ],
)
def test_bad_names_are_errors(folder, arguments, message):
    refused = run("export", str(folder), *arguments)
    assert refused.exit_code == 2
    assert message in refused.stderr
    with pytest.raises(UsageError, match="--what wings"):
        dpvae.export(folder, "x.onnx", what="wings")


class Untraceable(nn.Linear):
    """A decoder whose path depends on its input."""

    def forward(self, z):
        return super().forward(z) if float(z.sum()) > 0 else super().forward(-z)


def test_what_cannot_be_exported_says_why_and_the_rest_is_written(tmp_path, monkeypatch):
    model = model_of(dpvae.Mixture(components=2))
    with pytest.raises(UsageError, match="z0"):
        dpvae.export(model, tmp_path / "sampler.pt2")
    model.decoder = Untraceable(2, 3)
    with pytest.raises(UsageError, match=r"torch cannot export DecoderGraph: \w"):
        dpvae.export(model, tmp_path / "decoder.pt2")
    written = export_model(model, tmp_path / "all", what=None)
    assert [each.path.name for each in written.files] == ["encoder.onnx"]
    assert len(written.notes) == 3
    dpvae.export(model, tmp_path / "w.safetensors")


def test_a_file_that_computes_something_else_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "_run_pt2", lambda content, graph, x: (x[:, :1] + 1,) * 1)
    model = model_of(dpvae.StandardNormal())
    with pytest.raises(UsageError, match="the file returns"):
        dpvae.export(model, tmp_path / "decoder.pt2")
    monkeypatch.setattr(
        formats, "_run_pt2", lambda content, graph, x: (graph(x) + 0.1 * graph(x).abs().max(),)
    )
    with pytest.raises(UsageError, match=r"would differ from the model by 0\.1"):
        dpvae.export(model, tmp_path / "decoder.pt2")
    assert not (tmp_path / "decoder.pt2").exists()


def test_differences_are_relative_to_large_values():
    small, large = torch.tensor([0.5, -0.25]), torch.tensor([400.0, -100.0])
    assert largest_difference(small + 0.01, small) == pytest.approx(0.01)
    assert largest_difference(large + 4, large) == pytest.approx(0.01)
    assert largest_difference(torch.full((2,), float("nan")), small) != 0

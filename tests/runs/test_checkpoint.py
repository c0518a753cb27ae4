import json
import os
import pickle
import zipfile

import pytest
import safetensors.torch
import torch

import dpvae_cli as dpvae
from dpvae_cli.foundation.errors import CheckpointError
from dpvae_cli.foundation.serialization import pack_tensors, unpack_tensors
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.runs.checkpoint import load_optimizer, optimizer_tensors
from dpvae_cli.training.train import train
from tests.small import small_recipe


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    return train(small_recipe("factor"), folder), folder


def test_load_gives_the_trained_model(trained):
    model, folder = trained
    x = torch.randn(5, 2)
    for path in (folder, folder / "checkpoint.pt", str(folder)):
        loaded = dpvae.load(path)
        assert torch.equal(loaded.encode(x).mean, model.encode(x).mean)
        assert not loaded.training
    one, other = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    assert torch.equal(loaded.sample(4, generator=one), model.sample(4, generator=other))


def test_a_checkpoint_is_tensors_and_one_json_text(trained):
    """Other programs can read it: a safetensors file with one text in its metadata."""
    with safetensors.safe_open(trained[1] / "checkpoint.pt", "pt") as file:
        assert file.metadata().keys() == {"json"}
        meta = json.loads(file.metadata()["json"])
        read = checkpoints.read_checkpoint(trained[1] / "checkpoint.pt").tensors
        assert set(file.keys()) == read.keys()
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in read.items())
    assert meta["recipe"]["regularizer"]["kind"] == "factor"
    assert meta["version"] == checkpoints.FORMAT.version


def rewrite(source, target, **changes):
    meta, tensors = unpack_tensors(source.read_bytes())
    target.write_bytes(pack_tensors(meta | changes, tensors))
    return target


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def bad_files(folder, tmp_path):
    """Yield named files that are not usable checkpoints."""
    good = folder / "checkpoint.pt"
    whole = good.read_bytes()
    plain = {
        "empty": b"",
        "text": b"not a checkpoint at all",
        "truncated": whole[: len(whole) // 2],
        "headless": whole[100:],
    }
    for name, content in plain.items():
        (tmp_path / name).write_bytes(content)
        yield name, tmp_path / name
    torch.save({"weights": torch.zeros(2)}, tmp_path / "foreign")
    yield "foreign", tmp_path / "foreign"
    torch.save([1, 2], tmp_path / "list")
    yield "list", tmp_path / "list"
    foreign = {"weights": None, "another": {"json": "[]"}, "no json": {"a": "b"}}
    for name, metadata in foreign.items():
        safetensors.torch.save_file({"w": torch.zeros(2)}, tmp_path / name, metadata)
        yield name, tmp_path / name
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("hello", "world")
    yield "zip", tmp_path / "zip"
    yield "newer", rewrite(good, tmp_path / "newer", version=99)
    yield "other format", rewrite(good, tmp_path / "other", format="something")
    recipe = small_recipe("vae", "architecture.hidden=[9]")
    from dpvae_cli.recipe.loading import to_dict

    yield "wrong net", rewrite(good, tmp_path / "net", recipe=to_dict(recipe))
    yield "bad recipe", rewrite(good, tmp_path / "recipe", recipe={"data": "moon"})
    yield "missing", tmp_path / "nowhere.pt"


def test_bad_files_are_refused(trained, tmp_path):
    for name, path in bad_files(trained[1], tmp_path):
        with pytest.raises(CheckpointError) as caught:
            dpvae.load(path)
        assert str(path) in str(caught.value) or name == "wrong net", name
        assert caught.value.hint, name


def test_a_malicious_pickle_is_not_executed(tmp_path):
    trap = tmp_path / "executed"
    torch.save({"json": Malicious(trap), "tensors": {}}, tmp_path / "torch.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Malicious(trap)))
    for name in ("torch.pt", "plain.pt"):
        with pytest.raises(CheckpointError):
            dpvae.load(tmp_path / name)
    assert not trap.exists()
    torch.load(tmp_path / "torch.pt", weights_only=False)
    assert trap.exists(), "the trap itself must work, or the test proves nothing"


def test_optimizer_moments_survive(trained):
    saved = checkpoints.read_checkpoint(trained[1] / "checkpoint.pt")
    parameters = list(saved.model().parameters())
    optimizer = torch.optim.Adam(parameters, fused=True)
    load_optimizer(optimizer, saved.part("optimizer"))
    again = optimizer_tensors(optimizer)
    assert again.keys() == saved.part("optimizer").keys()
    assert all(torch.equal(again[k], v) for k, v in saved.part("optimizer").items())


def test_moments_go_on_in_the_layout_of_their_weights():
    """A file may hold another memory layout; a fused step reads memory, not indices."""
    generator = torch.Generator().manual_seed(0)

    def stepped(moments, layout):
        weight = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(1))
        weight = torch.nn.Parameter(weight.to(memory_format=layout))
        optimizer = torch.optim.Adam([weight], fused=True)
        load_optimizer(optimizer, moments)
        weight.grad = gradient.to(memory_format=layout)
        optimizer.step()
        return weight.detach()

    gradient = torch.randn(4, 3, 2, 2, generator=generator)
    moments = {
        "0.step": torch.tensor(3.0),
        "0.exp_avg": torch.randn(4, 3, 2, 2, generator=generator),
        "0.exp_avg_sq": torch.rand(4, 3, 2, 2, generator=generator),
    }
    plain = stepped(moments, torch.contiguous_format)
    torch.testing.assert_close(stepped(moments, torch.channels_last), plain, rtol=1e-6, atol=1e-7)
    turned = {
        k: v.to(memory_format=torch.channels_last) if v.dim() else v for k, v in moments.items()
    }
    torch.testing.assert_close(stepped(turned, torch.contiguous_format), plain, rtol=0, atol=0)


def test_moments_of_another_optimizer_are_refused():
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))], fused=True)
    with pytest.raises(CheckpointError, match="1 parameters"):
        load_optimizer(optimizer, {"1.exp_avg": torch.zeros(2)})

"""Small files that would become large, deep or endless: refused by counting, before they unfold."""

import gzip
import io
import json
import math
import os
import resource
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from scipy.io import savemat

import dpvae_cli as dpvae
from dpvae_cli.data import Arrays, BinarizedMnist, Dsprites, Mnist, Svhn
from dpvae_cli.data import mnist as mnist_module
from dpvae_cli.data.dsprites import FILE as DSPRITES
from dpvae_cli.evaluation import feature_statistics, inception
from dpvae_cli.foundation import memory, text
from dpvae_cli.foundation.array_files import read_npz
from dpvae_cli.foundation.errors import CheckpointError, MissingError, UsageError
from dpvae_cli.foundation.serialization import pack_tensors, unpack_tensors
from dpvae_cli.recipe import RecipeError, load_recipe
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.runs.checkpoint import load_optimizer
from dpvae_cli.studies.loading import load_study
from dpvae_cli.studies.plan import make_plan
from dpvae_cli.studies.records import read_inputs
from dpvae_cli.training.dry_run import describe
from dpvae_cli.training.train import train
from tests.small import small_recipe

GIGABYTE = 2**30
LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(24)
)
"""Nine to the power of 24 words, in a kilobyte."""
MERGED = "a: &a {x: 1}\n" + "".join(
    f"a{i}: &a{i}\n  <<: [{', '.join([f'*a{i - 1}' if i else '*a'] * 9)}]\n" for i in range(24)
)
BAD_YAML = {
    "aliases": (LAUGHS, "is an anchor"),
    "merge keys": (MERGED, "is an anchor"),
    "a merge without an anchor": ("data: moons\ntraining: {<<: {iterations: 3}}\n", "merge keys"),
    "sequences in sequences": ("a: " + "[" * 100_000, "nested deeper than 20"),
    "mappings in mappings": ("a: " + "{a: " * 100_000, "nested deeper than 20"),
    "blocks in blocks": ("".join(" " * i + "a:\n" for i in range(900)), "nested deeper than 20"),
    "dashes in dashes": ("a:\n" + "- " * 100_000 + "1", "nested deeper than 20"),
    "keys in keys": ("? " * 100_000, "a key is a word"),
    "many values": ("a: [" + "1," * 12_000 + "1]", "more than 10,000 values"),
    "many keys": ("".join(f"k{i}: 1\n" for i in range(12_000)), "more than 10,000 values"),
    "many documents": ("--- 1\n" * 100_000, "a second document"),
    "a Python object": ("data: !!python/object:os.system {}", "the tag"),
    "a Python call": ("data: !!python/object/apply:os.system ['id']", "the tag"),
    "a Python module": ("data: !!python/module:os", "the tag"),
    "a tag of one's own": ("%TAG !e! tag:example.org,2000:\n---\ndata: !e!x 1", "the tag"),
    "a long tag": ("data: !" + "x" * 900_000, "the tag"),
    "a long anchor": ("data: &" + "x" * 900_000 + " 1", "is an anchor"),
}


@pytest.fixture(autouse=True)
def _no_data_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DPVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DPVAE_DATA", raising=False)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", BAD_YAML)
@pytest.mark.parametrize("load", [load_recipe, load_study], ids=["recipe", "study"])
def test_yaml_is_refused_where_it_begins_to_grow(name, load):
    text, said = BAD_YAML[name]
    Path("mine.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load("mine.yaml")
    assert str(caught.value).startswith("mine.yaml:")
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", BAD_YAML)
def test_the_record_of_a_study_is_read_as_carefully(name):
    """A report of a folder from elsewhere reads its study.yaml."""
    Path("runs").mkdir()
    Path("runs/recipe.yaml").write_text("data: moons\n")
    Path("study.yaml").write_text("notes: [x]\n" + BAD_YAML[name][0], encoding="utf-8")
    found = read_inputs([Path()])
    assert (found.question, found.notes) == (None, ())


def hundred_megabytes(path):
    """Make a file of 100 MB that takes no room on the disk."""
    with path.open("wb") as file:
        file.write(b"data: moons\n# ")
        file.truncate(100 * 2**20)


@pytest.mark.parametrize("load", [load_recipe, load_study], ids=["recipe", "study"])
def test_of_a_large_file_no_more_than_a_megabyte_is_read(load, monkeypatch):
    hundred_megabytes(Path("mine.yaml"))
    asked = []
    read = io.BufferedReader.read

    def counted(self, size=-1):
        asked.append(size)
        return read(self, size)

    class Counting(io.BufferedReader):
        read = counted

    opened = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *a, **k: Counting(opened(self, *a, **k).detach())
    )
    with pytest.raises(RecipeError, match="larger than 1 MB"):
        load("mine.yaml")
    assert asked == [1_000_001]


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev/zero here")
def test_an_endless_file_ends():
    with pytest.raises(RecipeError, match="larger than 1 MB"):
        load_recipe("/dev/zero")


def test_a_study_of_more_cells_than_anybody_trains_is_refused_before_they_are_made():
    keys = ("regularizer.beta", "prior.blocks", "prior.hidden", "training.batch_size")
    axes = "".join(f"  {key}: [{', '.join(map(str, range(2, 102)))}]\n" for key in keys)
    text = f"title: T\nrecipes: [vae_moons]\naxes:\n{axes}metrics: [skl]\n"
    Path("mine.yaml").write_text(text)
    with pytest.raises(RecipeError, match="100,000,000 cells are more than 10,000"):
        make_plan(load_study("mine.yaml"))


@pytest.mark.parametrize("name", ["..yaml", "...yaml"])
def test_a_study_s_file_name_leads_out_of_no_folder(name):
    Path(name).write_text("title: T\nrecipes: [vae_moons]\n")
    with pytest.raises(RecipeError, match="gives it no name"):
        load_study(f"./{name}")


HUGE = {
    "architecture.hidden=[1000000000, 1000000000]": "training",
    "architecture.hidden=[9223372036854775807]": "training",
    "prior.hidden=1000000000": "training",
    "regularizer.width=1000000000": "the regularizer",
    "training.batch_size=10000000": "training with training.batch_size=10,000,000",
}


@pytest.mark.parametrize("override", HUGE)
def test_a_recipe_larger_than_all_memory_is_refused_before_it_is_built(override, monkeypatch):
    monkeypatch.setattr(memory, "total_memory_bytes", lambda: GIGABYTE)
    recipe = load_recipe("factor_moons", [override])
    with pytest.raises(UsageError, match="GB of memory") as caught:
        describe(recipe, device="cpu")
    assert str(caught.value).startswith((HUGE[override], "the model"))


def test_data_larger_than_all_memory_are_not_drawn(monkeypatch):
    monkeypatch.setattr(memory, "total_memory_bytes", lambda: 2**20)
    with pytest.raises(UsageError, match="GB of memory"):
        load_recipe("vae_moons").data.load()


def zeros(count):
    """Return the bytes of a .npy of zeros, compressed as a zip has it, and its header."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"shape": (count, 2), "fortran_order": False, "descr": "<f4"}
    )
    return header.getvalue()


def npz_bomb(path, *names, gigabytes=8):
    """Write an .npz that says of its arrays that each unpacks to this number of gigabytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(f"{name}.npy", zeros(gigabytes * 2**27))
    content = path.read_bytes()
    small = struct.pack("<I", len(zeros(gigabytes * 2**27)))
    # the size unpacked, as the directory at the end has it
    at = content.index(b"PK\x01\x02")
    assert content[at + 24 : at + 28] == small
    path.write_bytes(content[: at + 24] + struct.pack("<I", 2**32 - 2) + content[at + 28 :])


@pytest.mark.parametrize("read", [read_npz, feature_statistics.read, Arrays(path="x.npz").load])
def test_an_archive_that_would_fill_memory_is_not_unpacked(read, monkeypatch):
    monkeypatch.setattr("dpvae_cli.foundation.array_files.total_memory_bytes", lambda: GIGABYTE)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("it was opened"))
    npz_bomb(Path("x.npz"), "x")
    argument = () if getattr(read, "__name__", "") == "load" else (Path("x.npz"),)
    with pytest.raises((ValueError, MissingError)) as caught:
        read(*argument)
    assert "x.npz" in str(caught.value)


@pytest.mark.parametrize("shape", [(10**15, 2), (2**62, 2), (10**30, 2), (-1, 2)])
def test_a_header_that_lies_is_no_data(shape):
    Path("x.npy").write_bytes(lying(shape))
    with pytest.raises(MissingError, match=r"x\.npy cannot be read"):
        Arrays(path="x.npy").load()
    with zipfile.ZipFile(DSPRITES, "w") as archive:
        archive.writestr("latents_classes.npy", lying(shape))
        archive.writestr("imgs.npy", lying(shape))
    with pytest.raises(MissingError, match="cannot be read as dSprites"):
        Dsprites().load(Path())


def lying(shape):
    """Return a .npy of a hundred bytes that says it is of this shape."""
    said = repr({"descr": "<f4", "fortran_order": False, "shape": shape}).encode().ljust(118)
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(said) + 1) + said + b"\n" + bytes(100)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    train(small_recipe("factor"), folder)
    return folder


def packed(path, target):
    """Write the same zip with its entries compressed, as no torch.save does."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))


def test_compressed_tensors_are_not_unpacked(monkeypatch):
    torch.save({"json": "{}", "tensors": {}}, "whole.pt")
    packed("whole.pt", "packed.pt")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(CheckpointError, match="damaged"):
        dpvae.load("packed.pt")
    with pytest.raises(MissingError, match="compressed"):
        inception.load_inception(Path("packed.pt"), 64)


DEEP = '{"a":' * 50_000 + "1" + "}" * 50_000
META = {
    "iterations that are none": {"iteration": 1.5},
    "a negative iteration": {"iteration": -1},
    "a shape that is none": {"example_shape": [0]},
    "a shape of text": {"example_shape": "2"},
    "a shape of many axes": {"example_shape": [1] * 100_000},
    "a name that is none": {"recipe_name": ["x"]},
    "facts that are none": {"facts": []},
    "a recipe that is none": {"recipe": [1]},
    "a version that is none": {"version": "new"},
}


def parts(folder):
    return unpack_tensors((folder / "checkpoint.pt").read_bytes())


def write(meta, tensors, path):
    Path(path).write_bytes(pack_tensors(meta, tensors))


@pytest.mark.parametrize("name", META)
def test_what_a_checkpoint_says_of_itself_is_not_trusted(name, trained):
    meta, tensors = parts(trained)
    meta |= META[name]
    write(meta, tensors, "bad.pt")
    with pytest.raises(CheckpointError, match=r"bad\.pt is not a dpvae checkpoint"):
        dpvae.load("bad.pt")


@pytest.mark.parametrize("change", [*META.values(), {"iteration": math.inf}])
def test_what_an_old_checkpoint_says_of_itself_is_not_trusted(change, trained):
    meta, tensors = parts(trained)
    torch.save({"json": json.dumps(meta | change), "tensors": tensors}, "old.pt")
    with pytest.raises(CheckpointError, match=r"old\.pt is not a dpvae checkpoint"):
        dpvae.load("old.pt")


TENSORS = {
    "none": None,
    "a list": [torch.zeros(2)],
    "text": {"model.x": "y"},
    "sparse ones": {"model.x": torch.eye(2).to_sparse()},
    "ones without numbers": {"model.x": torch.empty(2, device="meta")},
    "numbers for names": {0: torch.zeros(2)},
    "a view of one number": {"model.x": torch.zeros(1).expand(2**40)},
}


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.filterwarnings("ignore")  # torch's own warnings on sparse tensors
def test_odd_tensors_are_no_checkpoint(name, trained):
    meta, tensors = parts(trained)
    torch.save({"json": json.dumps(meta), "tensors": TENSORS[name]}, "bad.pt")
    with pytest.raises(CheckpointError):
        dpvae.load("bad.pt")
    torch.save({"json": DEEP, "tensors": tensors}, "deep.pt")
    with pytest.raises(CheckpointError, match="not a dpvae checkpoint"):
        dpvae.load("deep.pt")
    Path("deep.pt").write_bytes(safetensors.torch.save(tensors, {"json": DEEP}))
    with pytest.raises(CheckpointError, match="not a dpvae checkpoint"):
        dpvae.load("deep.pt")


def test_a_checkpoint_of_a_model_larger_than_memory_is_not_built(trained, monkeypatch):
    meta, tensors = parts(trained)
    meta["recipe"]["architecture"]["hidden"] = [10**9, 10**9]
    write(meta, tensors, "bad.pt")
    with pytest.raises(CheckpointError, match=r"1000000000.*the file has"):
        dpvae.load("bad.pt")


@pytest.fixture
def built_on(monkeypatch):
    """List the devices that models are built on."""
    devices = []
    build = checkpoints.build

    def watched(*args, **kwargs):
        devices.append(torch.empty(0).device.type)
        return build(*args, **kwargs)

    monkeypatch.setattr(checkpoints, "build", watched)
    return devices


def test_a_checkpoint_whose_shape_is_not_that_of_its_tensors_takes_no_memory(trained, built_on):
    meta, tensors = parts(trained)
    write(meta | {"example_shape": [100_000]}, tensors, "wide.pt")
    with pytest.raises(CheckpointError, match=r"100000.*the file has"):
        dpvae.load("wide.pt")
    assert set(built_on) == {"meta"}
    dpvae.load(trained / "checkpoint.pt")
    assert "cpu" in built_on


def test_a_prior_file_of_more_dimensions_than_it_stores_takes_no_memory(monkeypatch):
    mean = torch.randn(40, 2)
    dpvae.fit_prior(mean, prior="decoupled", fitting=dpvae.Fitting(iterations=1)).save("prior.pt")
    meta, tensors = unpack_tensors(Path("prior.pt").read_bytes())
    meta["latent_dim"] = 3_000
    write(meta, tensors, "wide.pt")
    with pytest.raises(CheckpointError, match="not those of its prior"):
        dpvae.load_prior("wide.pt")
    tensors["unused"] = torch.zeros(1).expand(10**9)
    torch.save({"json": json.dumps(meta), "tensors": tensors}, "wide.pt")
    with pytest.raises(CheckpointError, match="not a dpvae prior"):
        dpvae.load_prior("wide.pt")


@pytest.mark.parametrize(
    "change",
    [
        {"x": torch.zeros(1)},
        {"0": torch.zeros(1)},
        {"0.other": torch.zeros(1)},
        {"-1.step": torch.tensor(1.0)},
        {"9" * 5_000 + ".step": torch.tensor(1.0)},
        {"0.exp_avg": torch.zeros(1).expand(10**6, 10**6)},
        {"0.step": torch.zeros(1).expand(10**6, 10**6)},
        {"0.step": torch.tensor(math.inf)},
        {"0.exp_avg": torch.full((2,), math.nan)},
    ],
    ids=[
        *("a word", "no moment", "another moment", "minus one", "digits", "a broadcast", "steps"),
        *("endless steps", "not a number"),
    ],
)
def test_odd_moments_are_refused(change):
    weight = torch.nn.Parameter(torch.zeros(2))
    good = {
        "0.step": torch.tensor(1.0),
        "0.exp_avg": torch.zeros(2),
        "0.exp_avg_sq": torch.zeros(2),
    }
    optimizer = torch.optim.Adam([weight], fused=True)
    load_optimizer(optimizer, good)
    with pytest.raises(CheckpointError, match="optimizer does not fit") as caught:
        load_optimizer(optimizer, good | change)
    assert len(str(caught.value)) < 300


@pytest.mark.filterwarnings("ignore")  # torch's own warnings on the damage
def test_a_changed_byte_of_a_checkpoint_raises_nothing_else(trained):
    """Whatever is damaged: the checkpoint loads (a weight may have changed) or is refused."""
    whole = (trained / "checkpoint.pt").read_bytes()
    refused = 0
    for at in [*range(0, 1_000, 37), *range(1_000, len(whole), len(whole) // 40)]:
        Path("bad.pt").write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            dpvae.load("bad.pt")
        except CheckpointError:
            refused += 1
    assert refused > 10


def test_packed_mnist_that_grows_is_refused(monkeypatch):
    monkeypatch.setattr(mnist_module, "LARGEST", 2**16)
    raw = Path("MNIST/raw")
    raw.mkdir(parents=True)
    for names in mnist_module.FILES.values():
        for name in names:
            (raw / f"{name}.gz").write_bytes(gzip.compress(bytes(2**20)))
    with pytest.raises(MissingError, match="unpacks into more than"):
        Mnist().load(Path(), download=False)


def test_an_endless_line_is_cut():
    for name in ("train", "valid", "test"):
        with Path(f"binarized_mnist_{name}.amat").open("wb") as file:
            file.truncate(100 * 2**20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(MissingError, match="amat:1: 1 columns"):
        BinarizedMnist().load(Path())
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 50 * 1024, "kilobytes"


def test_arrays_of_svhn_that_grow_are_refused_by_their_headers(monkeypatch):
    images = np.zeros((32, 32, 3, 40), np.uint8)
    for name in ("train", "test"):
        savemat(f"{name}_32x32.mat", {"X": images, "y": np.ones((40, 1))}, do_compression=True)
    monkeypatch.setattr("dpvae_cli.data.svhn.total_memory_bytes", lambda: images.size - 1)
    monkeypatch.setattr("scipy.io.loadmat", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(MissingError, match="X would unpack into 122,880 numbers"):
        Svhn().load(Path(), download=False)


@pytest.mark.parametrize("content", ["[" * 100_000, DEEP, "9" * 5_000, "{", ""])
def test_json_that_is_too_deep_or_too_large_is_none(content):
    with pytest.raises(ValueError, match=r"."):
        text.parse_json(content)
    Path("x.json").write_text(content)
    assert text.read_json(Path("x.json")) == {}


def test_texts_of_ours_are_plain_files_of_bounded_size():
    os.mkfifo("pipe")
    assert text.read_json(Path("pipe")) == {}
    with pytest.raises(OSError, match="pipe"):
        text.read_text(Path("pipe"))
    Path("x.txt").write_text("12345")
    with pytest.raises(ValueError, match="5 bytes, 4 is the most"):
        text.read_text(Path("x.txt"), limit=4)


def test_memory_is_that_of_the_machine_or_the_container(tmp_path, monkeypatch):
    memory.total_memory_bytes.cache_clear()
    machine = memory.total_memory_bytes()
    assert GIGABYTE / 8 < machine < 2**50
    (tmp_path / "limit").write_text("1000000\n")
    monkeypatch.setattr(memory, "CGROUP_LIMIT_FILES", (tmp_path / "limit", tmp_path / "nothing"))
    memory.total_memory_bytes.cache_clear()
    assert memory.total_memory_bytes() == 1_000_000
    (tmp_path / "limit").write_text("max\n")
    memory.total_memory_bytes.cache_clear()
    assert memory.total_memory_bytes() >= machine
    memory.total_memory_bytes.cache_clear()


def test_too_little_memory_is_a_message(tmp_path):
    """Where counting did not help: missing system values cause no traceback."""
    code = (
        "import torch, typer\n"
        "from dpvae_cli.cli.app import app\n"
        "from dpvae_cli.cli.errors import handle_errors\n"
        "@handle_errors\n"
        "def much(): torch.empty(2**48)\n"
        "try: much()\n"
        "except typer.Exit as error: raise SystemExit(error.exit_code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=100
    )
    assert (done.returncode, "memory ran out" in done.stderr) == (2, True)
    assert "Traceback" not in done.stderr

"""Nothing that can execute is ever loaded: a pickle with a trap in every place a file is opened."""

import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from dpvae_cli.cli.app import app
from dpvae_cli.runs.checkpoint import file_digest
from tests.small import SMALL, tiny_extractor

PACKAGE = Path(__file__).parents[2] / "dpvae_cli"
SMALL_ARRAYS = tuple(part for part in SMALL if not part.startswith("data."))
OPENERS = {
    "torch.load": {"foundation/serialization.py"},
    "safe.load": {"foundation/serialization.py"},
    "np.load": {"data/image_cache.py"},
    "np.lib.format.read_array": {"foundation/array_files.py"},
    "loadmat": {"data/svhn.py"},
    "export.load": {"evaluation/features.py", "exporter/formats.py"},
    "jit.load": {"evaluation/features.py"},
    "yaml.safe_load": {"studies/published/__init__.py"},
    "yaml.parse": {"recipe/document.py"},
}
"""Everything in the package that makes objects from a file, and where; each place has a case below.

`studies/published` reads files of the package itself, `exporter/formats` what it has just written.
"""
FORBIDDEN = (
    *("pickle.load", "pickle.Unpickler", "allow_pickle=True", "weights_only=False", "yaml.load("),
    *("yaml.unsafe", "yaml.full_load", "joblib", "dill", "shelve", "marshal", "exec(", " eval("),
)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.makedirs, (str(self.path), 0o700, True)


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """Return a folder with a run on small images, measured, and an extractor of features."""
    folder = tmp_path_factory.mktemp("workshop")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DPVAE_CACHE", str(folder / "cache"))
        images = np.random.default_rng(0).integers(0, 256, (60, 1, 6, 6), dtype=np.uint8)
        np.save("x.npy", images)
        tiny_extractor(Path("tiny.pt"))
        for number in range(30):
            path = Path("pictures") / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
        trained = invoke("train", "vae_moons", *DATA, *SMALL_ARRAYS, "--run-dir", "run")
        assert trained.exit_code == 0, trained.output
        assert invoke("eval", "run", "--metrics", "skl,nll", *QUIET).exit_code == 0
        assert invoke(*MEASURED).exit_code == 0
        assert invoke(*FROM_FOLDER, "--run-dir", "other").exit_code == 0
    return folder


DATA = ("data={kind: arrays, path: x.npy}",)
QUIET = ("--quiet", "--no-download")
EXTRACTED = ("--features", "tiny.pt", "--trust-features")
MEASURED = ("eval", "run", "--metrics", "fid", *EXTRACTED, *QUIET)
FROM_FOLDER = ("train", "vae_moons", "data={kind: folder, path: pictures, size: 4}", *SMALL_ARRAYS)


@pytest.fixture
def here(workshop, tmp_path, monkeypatch):
    """Work in a copy of the workshop."""
    folder = tmp_path / "copy"
    shutil.copytree(workshop, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DPVAE_CACHE", str(folder / "cache"))
    monkeypatch.delenv("DPVAE_DATA", raising=False)
    return folder


def raw(path, trap):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(Trap(trap)))


def saved(path, trap):
    torch.save({"json": Trap(trap), "tensors": {"model.x": Trap(trap)}, "x": Trap(trap)}, path)


def objects(trap):
    return np.array([[Trap(trap)] * 2] * 4, dtype=object)


def array(path, trap):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.save(file, objects(trap))


def archive(path, trap):
    """Write the arrays that any of our readers looks for, each of them a trap."""
    names = ("x", "mu", "sigma", "rows", "mean", "log_variance", "keys", "estimates", "z", "prior")
    run = path.parent.parent if path.parent.name == "traversals" else path.parent
    digest = file_digest(run / "checkpoint.pt") if (run / "checkpoint.pt").exists() else ""
    np.savez(path, checkpoint=np.array(digest), **dict.fromkeys(names, objects(trap)))


def tagged(text):
    """Return a writer of YAML with a tag that would call os.mkdir."""
    return lambda path, trap: path.write_text(
        f"{text}: !!python/object/apply:os.mkdir ['{trap}']\n"
    )


def everywhere(pattern, write):
    """Return a writer over every file that is there already."""

    def over(path, trap):
        found = list(path.parent.glob(pattern))
        assert found
        for each in found:
            write(each, trap)

    return over


PLACES = {
    "a checkpoint": (
        "run/checkpoint.pt",
        saved,
        ["sample", "run"],
        4,
        "objects other than tensors",
    ),
    "a bare pickle as checkpoint": ("run/checkpoint.pt", raw, ["encode", "run"], 4, "checkpoint"),
    "best.pt": ("run/best.pt", saved, ["eval", "run", "--best", *QUIET], 4, "other than tensors"),
    "a checkpoint to go on from": (
        "run/checkpoint.pt",
        saved,
        ["train", "--resume", "--run-dir", "run"],
        4,
        "other than tensors",
    ),
    "a checkpoint drawn": ("run/checkpoint.pt", saved, ["plot", "samples", "run"], 4, "tensors"),
    "a checkpoint reported on": ("run/checkpoint.pt", saved, ["report", "run"], 0, ""),
    "encodings": (
        "run/checkpoint.encodings.npz",
        archive,
        ["sample", "run", "--low-posterior", "-n", "4"],
        0,
        "",
    ),
    "finished likelihoods": (
        "run/checkpoint.nll.npz",
        archive,
        ["eval", "run", "--metrics", "nll", *QUIET],
        0,
        "",
    ),
    "kept samples": ("run/gallery.npz", archive, ["plot", "samples", "run"], 0, ""),
    "data .npy": (
        "x.npy",
        array,
        ["train", "vae_moons", *DATA, "--run-dir", "new"],
        3,
        "x.npy cannot be read",
    ),
    "data .npz": (
        "x.npz",
        archive,
        ["train", "vae_moons", "data={kind: arrays, path: x.npz}", "--run-dir", "new"],
        3,
        "x.npz cannot be read",
    ),
    "a bare pickle as data": (
        "x.npy",
        raw,
        ["train", "vae_moons", *DATA, "--run-dir", "new"],
        3,
        "x.npy cannot be read",
    ),
    "reference statistics": (
        "them.npz",
        archive,
        [*MEASURED, "--reference", "them.npz"],
        3,
        "them.npz cannot be read",
    ),
    "cached statistics": ("cache/features/x", everywhere("*.npz", archive), MEASURED, 0, ""),
    "Inception weights": (
        "weights.pth",
        saved,
        ["eval", "run", "--metrics", "fid", "--inception-weights", "weights.pth", *QUIET],
        3,
        "weights.pth is refused: it holds more than tensors",
    ),
    "cached pictures": (
        "cache/pictures/x",
        everywhere("*.npy", array),
        [*FROM_FOLDER, "--run-dir", "new"],
        0,
        "",
    ),
    "a picture": (
        "pictures/bad.png",
        raw,
        [*FROM_FOLDER, "--run-dir", "new"],
        3,
        "bad.png: not an image",
    ),
    "dSprites": (
        "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",
        lambda path, trap: np.savez(path, latents_classes=objects(trap), imgs=objects(trap)),
        ["train", "vae_moons", "data=dsprites", *SMALL_ARRAYS, "--data-root", ".", *QUIET],
        3,
        "cannot be read as dSprites",
    ),
    "SVHN": (
        "train_32x32.mat",
        raw,
        ["train", "vae_svhn", "--data-root", ".", *QUIET],
        3,
        "test_32x32.mat not found",
    ),
    "SVHN, both files": (
        "train_32x32.mat",
        lambda path, trap: [raw(path.with_name(f"{n}_32x32.mat"), trap) for n in ("train", "test")],
        ["train", "vae_svhn", "--data-root", ".", *QUIET],
        3,
        "train_32x32.mat cannot be read",
    ),
    "binarised MNIST": (
        "binarized_mnist_train.amat",
        lambda path, trap: [
            raw(path.with_name(f"binarized_mnist_{n}.amat"), trap)
            for n in ("train", "valid", "test")
        ],
        ["train", "vae_mnist_binary", "data=binarized_mnist", "--data-root", ".", *QUIET],
        3,
        "binarized_mnist_train.amat:1",
    ),
    "MNIST": (
        "MNIST/raw/train-images-idx3-ubyte",
        raw,
        ["train", "vae_mnist", "--data-root", ".", *QUIET],
        3,
        "no IDX file",
    ),
    "a recipe": ("mine.yaml", tagged("seed"), ["train", "mine.yaml"], 2, "mine.yaml:1:7: the tag"),
    "a study": ("mine.yaml", tagged("title"), ["reproduce", "mine.yaml"], 2, "mine.yaml:1:8: the"),
    "a study's record": ("study.yaml", tagged("title"), ["report", "."], 0, ""),
    "results": ("run/metrics.json", raw, ["eval", "run", "--metrics", "skl", *QUIET], 0, ""),
    "the log": ("run/metrics.jsonl", raw, ["train", "--resume", "--run-dir", "run"], 0, ""),
    "the environment": ("run/environment.json", raw, ["report", "run"], 0, ""),
    "an exported network": (
        "net.pt2",
        raw,
        ["eval", "run", "--metrics", "fid", "--features", "net.pt2", *QUIET],
        2,
        "holds code",
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_trap_is_not_sprung(place, here, tmp_path):
    file, write, command, code, said = PLACES[place]
    trap = tmp_path / "sprung"
    write(here / file, trap)
    done = invoke(*command)
    assert not trap.exists()
    assert done.exit_code == code, done.output
    assert said in done.stderr
    assert not re.search("allow_pickle|pickle.load|weights_only", done.output)
    assert "Traceback" not in done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)


@pytest.mark.parametrize("write", [raw, saved, array, archive])
def test_the_traps_would_spring(write, tmp_path):
    """Guard the test above: whoever loads these files carelessly is caught."""
    path, trap = tmp_path / "file", tmp_path / "sprung"
    write(path, trap)
    if write is raw:
        pickle.loads(path.read_bytes())
    elif write is saved:
        torch.load(path, weights_only=False)
    else:
        path = path if path.exists() else path.with_suffix(".npz")
        loaded = np.load(path, allow_pickle=True)
        assert loaded.shape if write is array else loaded["x"].shape
    assert trap.exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.timeout(60)
@pytest.mark.parametrize("suffix", [".pt2", ".pt"])
def test_an_exported_network_is_not_even_opened_without_trust(here, suffix):
    """The file is a pipe that nobody writes to: whatever opened it would wait for ever."""
    os.mkfifo(f"net{suffix}")
    done = invoke("eval", "run", "--metrics", "fid", "--features", f"net{suffix}")
    assert done.exit_code == 2
    assert "--trust-features" in done.stderr


def test_no_other_place_opens_files():
    """A new place that makes objects from files needs a case above."""
    texts = {
        path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8")
        for path in PACKAGE.rglob("*.py")
    }
    for opener, places in OPENERS.items():
        pattern = re.compile(rf"(?<![\w.]){re.escape(opener)}\(|torch\.{re.escape(opener)}\(")
        assert {name for name, text in texts.items() if pattern.search(text)} == places, opener
    for name, text in texts.items():
        found = [word for word in FORBIDDEN if re.search(rf"(?<![\w.]){re.escape(word)}", text)]
        assert not found, f"{name}: {found}"
        arrays = text.count("np.load(") + text.count("format.read_array(")
        assert arrays == text.count("allow_pickle=False"), name
        assert text.count("torch.load(") == text.count("weights_only=True"), name

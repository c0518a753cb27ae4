"""Data units: samples of standardized tables and of images of [-1, 1] come back in them."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dpvae_cli as dpvae
from dpvae_cli.plotting import samples
from dpvae_cli.runs import checkpoint as checkpoints
from tests.cli.test_commands import ok, run
from tests.small import SMALL, tiny_extractor

QUICK = (
    *(part for part in SMALL if not part.startswith("data.")),
    *(f"training.{field}=200" for field in ("iterations", "validate_every", "checkpoint_every")),
    "training.learning_rate=0.01",
    "likelihood.scale=0.3",
)
NAMES = ["seconds", "volts"]
CENTRE, SPREAD = np.array([5_000.0, -0.02]), np.array([200.0, 0.001])
MEAN_GREY = 200


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """Return a folder with a run of a standardized table and three of the same images."""
    folder = tmp_path_factory.mktemp("units")
    generator = np.random.default_rng(0)
    rows = CENTRE + SPREAD * generator.standard_normal((300, 2))
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([NAMES, *rows.tolist()])
    np.savez(folder / "table.npz", x=rows, columns=np.array(NAMES))
    grey = generator.integers(MEAN_GREY - 20, MEAN_GREY + 21, (200, 1, 5, 5), dtype=np.uint8)
    grey[:, :, 0] = generator.integers(0, 256, (200, 1, 5), dtype=np.uint8)
    np.save(folder / "bytes.npy", grey)
    np.save(folder / "signed.npy", grey / 127.5 - 1)
    np.save(folder / "wide.npy", 3 * generator.standard_normal((200, 1, 5, 5)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        table = "data={kind: arrays, path: table.csv, scale: standardize}"
        ok("train", "vae_moons", table, *QUICK, "--run-dir", "table")
        for name in ("bytes", "signed", "wide"):
            data = f"data={{kind: arrays, path: {name}.npy}}"
            ok("train", "vae_moons", data, *QUICK, "--run-dir", name)
        data = "data={kind: arrays, path: bytes.npy, scale: standardize}"
        ok("train", "vae_moons", data, *QUICK, "--run-dir", "levels")
    return folder


@pytest.fixture(autouse=True)
def there(workshop, monkeypatch):
    monkeypatch.chdir(workshop)
    monkeypatch.setenv("DPVAE_CACHE", str(workshop / "cache"))


def read_table(path):
    with Path(path).open(newline="") as file:
        names, *rows = csv.reader(file)
    return names, np.array(rows, dtype=float)


def assert_in_units(rows):
    """Assert that rows have about the training data's mean, and are of its size."""
    assert (np.abs(rows.mean(axis=0) - CENTRE) < SPREAD).all()
    assert (rows.std(axis=0) < 3 * SPREAD).all()


def test_a_table_comes_back_under_its_names_in_its_units(tmp_path):
    done = ok("sample", "table", "-n", 400, "--noise", "--format", "csv", "--out", tmp_path)
    assert done.stdout == f"{tmp_path}/prior.csv\n"
    names, rows = read_table(tmp_path / "prior.csv")
    assert names == NAMES
    assert rows.shape == (400, 2)
    assert_in_units(rows)
    assert (rows.std(axis=0) > 0.5 * SPREAD).all()
    assert ok("sample", "table", "-n", 3, "--format", "csv").stdout == "table/samples/prior.csv\n"
    again = read_table("table/samples/prior.csv")[1]
    ok("sample", "table", "-n", 3)
    np.testing.assert_array_equal(np.load("table/samples/prior.npz")["decoded"], again)


def test_a_suffix_asks_for_a_table(tmp_path):
    ok("sample", "table", "-n", 3, "--out", tmp_path / "rows.csv")
    assert read_table(tmp_path / "rows.csv")[0] == NAMES


def test_noise_is_that_of_the_likelihood(tmp_path):
    ok("sample", "table", "-n", 4_000, "--noise", "--out", tmp_path)
    arrays = np.load(tmp_path / "prior.npz")
    noise = (arrays["x"] - arrays["decoded"]) / SPREAD
    np.testing.assert_allclose(noise.std(axis=0), 0.3, rtol=0.15)
    assert arrays["columns"].tolist() == NAMES
    ok("sample", "table", "-n", 4, "--out", tmp_path)
    assert "x" not in np.load(tmp_path / "prior.npz")


@pytest.mark.parametrize("split", ["train", "test"])
def test_reconstructions_are_of_the_rows_as_they_were(split, tmp_path):
    ok("reconstruct", "table", "-n", 8, "--split", split, "--out", tmp_path)
    arrays = np.load(tmp_path / f"{split}.npz")
    _, rows = read_table("table.csv")
    distance = np.abs(arrays["x"][:, None] - rows).max(axis=-1).min(axis=1)
    assert (distance < 1e-3).all()
    assert_in_units(arrays["decoded"])


@pytest.mark.parametrize(
    ("arguments", "file", "arrays"),
    [
        (["traverse", "table"], "line-sweep.npz", ["walk_decoded"]),
        (["traverse", "table", "--grid"], "grid.npz", ["plane_decoded", "net_decoded"]),
    ],
    ids=["walks", "grid"],
)
def test_walks_are_in_units(arguments, file, arrays, tmp_path):
    ok(*arguments, "--out", tmp_path)
    for name in arrays:
        decoded = np.load(tmp_path / file)[name].reshape(-1, 2)
        assert (np.abs(decoded - CENTRE) < 30 * SPREAD).all()
        assert (np.abs(decoded.mean(axis=0) - CENTRE) < 3 * SPREAD).all()


def test_figures_are_in_units(tmp_path):
    ok("plot", "moons", "table", "--out", tmp_path / "x.png")
    portrait = np.load("table/portrait.npz")
    for name in ("train", "samples"):
        assert_in_units(portrait[name])


def test_metrics_say_that_they_are_of_standardized_values():
    done = ok("eval", "table", "--metrics", "elbo", "--json")
    results = json.loads(done.stdout)["runs"][0]["results"]
    assert all("standardized" in result["details"]["data_note"] for result in results)


def test_python_has_the_units():
    model = dpvae.load("table")
    rows = model.units.inverse_transform(model.sample(200))
    assert_in_units(rows.numpy())
    assert model.units.columns == tuple(NAMES)
    torch.testing.assert_close(
        model.units.inverse_transform(model.units.transform(rows)), rows, rtol=1e-6, atol=1e-6
    )


def test_a_checkpoint_without_constants_says_so(tmp_path):
    shutil.copytree("table", tmp_path / "old")
    path = tmp_path / "old" / "checkpoint.pt"
    saved = checkpoints.read_checkpoint(path)
    tensors = {name: t for name, t in saved.tensors.items() if not name.startswith("data.")}
    facts = {k: v for k, v in saved.facts.items() if k not in ("data_range", "data_columns")}
    replace(saved, tensors=tensors, facts=facts).write(path)
    done = ok("sample", path, "-n", 50, "--format", "csv")
    assert "did not save the mean and deviation" in done.stderr
    names, rows = read_table(tmp_path / "old" / "samples" / "prior.csv")
    assert names == ["x1", "x2"]
    assert np.abs(rows).max() < 10


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bytes", "--format", "csv"], "samples of shape 1 x 5 x 5 are not rows of a table"),
        (["table", "--format", "csv", "--out", "x.png"], "tables are written as .csv"),
        (["table", "--format", "csv", "--posterior"], "--format csv does not write"),
    ],
)
def test_mistakes_with_tables(arguments, said):
    done = run("sample", *arguments)
    assert done.exit_code == 2
    assert said in done.stderr


@pytest.mark.parametrize("name", ["bytes", "signed", "levels"])
def test_pixels_are_as_bright_as_the_data(name, tmp_path):
    ok("sample", name, "-n", 40, "--format", "png", "--out", tmp_path / "single")
    pixels = np.stack([np.asarray(Image.open(file)) for file in (tmp_path / "single").iterdir()])
    assert abs(pixels[:, 1:].mean() - MEAN_GREY) < 8
    ok("sample", name, "-n", 40, "--out", tmp_path)
    decoded = np.load(tmp_path / "prior.npz")["decoded"]
    low, high = {"bytes": (0, 1), "signed": (-1, 1), "levels": (0, 255)}[name]
    expected = 255 * (decoded - low) / (high - low)
    assert abs(expected.mean() - pixels.mean()) < 1
    for picture in (tmp_path / "prior.png", f"{name}/samples.png"):
        assert np.asarray(Image.open(picture).convert("L")).mean() > 180


def test_all_pictures_of_signed_images_are_those_of_bytes(tmp_path, monkeypatch):
    """What is drawn are the very bytes that the numbers in the .npz stand for."""
    drawn = []
    original = samples.to_pixels
    monkeypatch.setattr(
        samples, "to_pixels", lambda images: drawn.append(images) or original(images)
    )
    for command, file in (
        (["reconstruct", "signed"], "x.npz"),
        (["traverse", "signed", "--between", 0, 1, "--gif", "--steps", 3], "x.npz"),
        (["traverse", "signed", "--grid", "--steps", 2], "x.npz"),
        (["plot", "samples", "signed"], "signed/gallery.npz"),
    ):
        drawn.clear()
        ok(*command, "--out", tmp_path / "x.png")
        assert drawn
        assert all(images.dtype == np.uint8 for images in drawn)
        arrays = np.load(file if "/" in file else tmp_path / file)
        values = [array.reshape(-1) for array in arrays.values() if array.shape[-2:] == (5, 5)]
        expected = np.rint(255 * (np.concatenate(values).clip(-1, 1) + 1) / 2)
        assert set(np.concatenate([i.reshape(-1) for i in drawn])) <= {255, *expected}


def test_fid_is_the_same_whatever_the_range(tmp_path):
    tiny_extractor(tmp_path / "tiny.pt")
    trusted = ("--features", tmp_path / "tiny.pt", "--trust-features")
    ok("eval", "bytes", "--metrics", "fid", *trusted, "--save-reference", tmp_path / "ref.npz")
    kept = np.load(tmp_path / "ref.npz")
    for name in ("bytes", "signed", "levels"):
        found = []
        for reference in ((), ("--reference", tmp_path / "ref.npz")):
            done = ok("eval", name, "--metrics", "fid", *trusted, "--json", *reference)
            [result] = json.loads(done.stdout)["runs"][0]["results"]
            found.append(result["value"])
        assert found[0] == pytest.approx(found[1], rel=1e-3)
        assert found[0] < kept["sigma"].trace()


def test_fid_of_no_pixels_is_refused_with_a_reference_too(tmp_path):
    tiny_extractor(tmp_path / "tiny.pt")
    trusted = ("--features", tmp_path / "tiny.pt", "--trust-features")
    ok("eval", "bytes", "--metrics", "fid", *trusted, "--save-reference", tmp_path / "ref.npz")
    for reference in ((), ("--reference", tmp_path / "ref.npz")):
        done = run("eval", "wide", "--metrics", "fid", *trusted, *reference)
        assert done.exit_code == 1
        assert "features are of images in" in done.stderr

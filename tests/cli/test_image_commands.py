"""Commands on a run whose examples are images: single pictures, grids, codes, reconstructions."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.cli.test_commands import ok, run
from tests.small import SMALL


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """Return a folder with runs of labelled grey images, of colour images and of points."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for name, channels in (("grey", 1), ("colour", 3)):
        images = generator.integers(0, 256, (60, channels, 6, 5), dtype=np.uint8)
        np.savez(folder / f"{name}.npz", x=images, labels=np.arange(60) % 10)
    small = [part for part in SMALL if not part.startswith("data.")]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("grey", "colour"):
            data = f"data={{kind: arrays, path: {name}.npz}}"
            ok("train", "vae_moons", data, *small, "--run-dir", name)
        ok("train", "vae_moons", *SMALL, "--run-dir", "points")
    return folder


@pytest.fixture(autouse=True)
def there(workshop, monkeypatch):
    monkeypatch.chdir(workshop)


@pytest.mark.parametrize(("name", "mode"), [("grey", "L"), ("colour", "RGB")])
def test_sample_writes_a_png_each(name, mode, tmp_path):
    out = tmp_path / "single"
    done = ok("sample", name, "-n", 5, "--format", "png", "--out", out)
    assert done.stdout == f"{out}\n"
    assert sorted(path.name for path in out.iterdir()) == [f"{i:06d}.png" for i in range(5)]
    ok("sample", name, "-n", 5, "--out", tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as read:
        assert read.width >= 1_000
    decoded = np.load(tmp_path / "x.npz")["decoded"]
    for index, expected in enumerate(np.rint(255 * decoded.clip(0, 1))):
        with Image.open(out / f"{index:06d}.png") as read:
            assert read.mode == mode
            pixels = np.asarray(read).reshape(6, 5, -1)
        np.testing.assert_array_equal(pixels, expected.transpose(1, 2, 0))


def test_single_pngs_lie_in_the_run_folder_by_default():
    done = ok("sample", "grey", "--low-posterior", "-n", 3, "--format", "png")
    assert done.stdout == "grey/samples/low_posterior\n"
    ok("sample", "grey", "--low-posterior", "-n", 3, "--format", "png")
    fewer = run("sample", "grey", "--low-posterior", "-n", 2, "--format", "png")
    assert fewer.exit_code == 2
    assert "1 other PNG files, 000002.png" in fewer.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["points", "--format", "png"], "samples of shape 2 are not images"),
        (["grey", "--format", "png", "--out", "x.png"], "without a suffix"),
        (["grey", "--format", "png", "--posterior"], "does not write"),
        (["grey", "--format", "jpg"], "png"),
    ],
)
def test_mistakes_with_single_pngs(arguments, said):
    done = run("sample", *arguments)
    assert done.exit_code == 2
    assert said in done.stderr


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_encode(split, tmp_path):
    done = ok("encode", "grey", "--split", split, "--out", tmp_path / "codes.npz")
    assert done.stdout == f"{tmp_path}/codes.npz\n"
    codes = np.load(tmp_path / "codes.npz")
    sizes = {name: codes[name].shape for name in codes.files}
    total = len(codes["mean"])
    assert sizes == {"mean": (total, 2), "log_variance": (total, 2), "label": (total,)}
    if split == "train":
        ok("sample", "grey", "--low-posterior", "-n", 2)
        kept = np.load("grey/checkpoint.encodings.npz")
        np.testing.assert_array_equal(codes["mean"], kept["mean"])
        np.testing.assert_array_equal(codes["log_variance"], kept["log_variance"])


def test_encode_leaves_out_labels_that_are_not_there(tmp_path, workshop):
    np.save(workshop / "plain.npy", np.random.default_rng(0).random((60, 3), dtype=np.float32))
    small = [part for part in SMALL if not part.startswith("data.")]
    ok("train", "vae_moons", "data={kind: arrays, path: plain.npy}", *small, "--run-dir", "plain")
    assert ok("encode", "plain").stdout == "plain/codes/test.npz\n"
    assert set(np.load("plain/codes/test.npz").files) == {"mean", "log_variance"}
    assert ok("encode", "plain", "--out", tmp_path).stdout == f"{tmp_path}/test.npz\n"
    assert ok("reconstruct", "plain", "-n", 3).exit_code == 0
    done = run("encode", "plain", "--out", "codes.csv")
    assert done.exit_code == 2
    assert "written as .npz" in done.stderr


@pytest.mark.parametrize("name", ["grey", "colour", "points"])
def test_reconstruct(name, tmp_path):
    done = ok("reconstruct", name, "-n", 3, "--split", "validation")
    stem = f"{name}/reconstructions/validation"
    assert done.stdout == f"{stem}.png\n{stem}.npz\n"
    record = np.load(f"{stem}.npz")
    assert set(record.files) == {"x", "z", "decoded"}
    assert record["x"].shape == record["decoded"].shape
    assert record["z"].shape == (3, 2)
    ok("reconstruct", name, "-n", 3, "--out", tmp_path / "x.pdf")
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")
    done = ok("reconstruct", name, "-n", 99)
    count = len(np.load(f"{name}/reconstructions/test.npz")["x"])
    assert 3 < count < 99
    assert f"The test split has {count} examples" in done.stderr


def test_plot_samples_keeps_what_it_shows(tmp_path):
    done = ok("plot", "samples", "grey", "colour", "--out", tmp_path / "figure5")
    assert done.stdout.split() == [f"{tmp_path}/figure5.png", f"{tmp_path}/figure5.pdf"]
    first = np.load("grey/gallery.npz")
    assert first["low_posterior"].shape == (36, 1, 6, 5)
    (tmp_path / "figure5.png").unlink()
    ok("plot", "samples", "grey", "--out", tmp_path / "figure5.png")
    again = np.load("grey/gallery.npz")
    assert all(np.array_equal(first[key], again[key]) for key in first.files)
    ok("plot", "samples", "points", "--out", tmp_path / "points.png")
    assert np.load("points/gallery.npz")["data"].shape[1:] == (2,)
    done = run("plot", "samples", "points", "grey", "--out", tmp_path / "x")
    assert done.exit_code == 2
    assert "do not go into one figure" in done.stderr


@pytest.mark.parametrize("columns", [1, 3, 8])
def test_tables_are_drawn_over_their_data(columns, workshop, tmp_path):
    rows = np.random.default_rng(0).random((60, columns), dtype=np.float32)
    np.save(workshop / f"table{columns}.npy", rows)
    small = [part for part in SMALL if not part.startswith("data.")]
    data = f"data={{kind: arrays, path: table{columns}.npy}}"
    ok("train", "vae_moons", data, *small, "--run-dir", f"table{columns}")
    ok("sample", f"table{columns}", "-n", 9, "--out", tmp_path / "x.png")
    ok("plot", "samples", f"table{columns}", "--out", tmp_path / "y.png")
    (workshop / f"table{columns}.npy").unlink()
    ok("sample", f"table{columns}", "-n", 9, "--out", tmp_path / "alone.png")
    own = workshop / f"table{columns}/samples.png"
    for path in (tmp_path / "x.png", tmp_path / "y.png", tmp_path / "alone.png", own):
        with Image.open(path) as read:
            assert read.width >= 600


def test_eval_limits_nll_and_goes_on(tmp_path):
    def measured(*arguments):
        # so many samples fill a batch, and each example is kept by itself
        more = "evaluation.nll_samples=1000"
        done = ok("eval", "grey", "--metrics", "nll", "--json", more, *arguments)
        [result] = json.loads(done.stdout)["runs"][0]["results"]
        return result

    three = measured("--limit", 3)
    assert three["details"]["images"] == 3
    assert len(np.load("grey/checkpoint.nll.npz")["keys"]) == 3
    assert measured("--limit", 3) == three
    five = measured("evaluation.nll_images=5")
    assert len(np.load("grey/checkpoint.nll.npz")["keys"]) == 5
    assert measured("--limit", 5) == five
    one = measured("--limit", 1)
    assert (one["standard_error"], one["details"]["images"]) == (None, 1)
    assert "nan" not in ok("eval", "grey", "--metrics", "nll", "--limit", 1).stdout
    assert run("eval", "grey", "--limit", 0).exit_code == 2


def test_the_note_of_the_data_reaches_json_metrics_and_the_foot(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DPVAE_CACHE", str(tmp_path / "cache"))
    for index in range(40):
        pixels = np.random.default_rng(index).integers(0, 256, (8, 8), dtype=np.uint8)
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{index}.png")
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    small = [part for part in SMALL if not part.startswith("data.")]
    data = "data={kind: folder, path: in, size: 8, colour: grey, on_error: skip}"
    ok("train", "vae_moons", data, *small, "--run-dir", "run")
    ok("train", "vae_moons", data, *small, "--run-dir", "twin", "prior=standard_normal")
    note = "1 unreadable file left out"
    done = ok("eval", "run", "--metrics", "skl,leak,nll")
    assert done.stdout.rstrip().endswith(f"Data: {note}.")
    kept = json.loads((tmp_path / "run" / "metrics.json").read_text())["results"]
    printed = json.loads(ok("eval", "run", "--metrics", "skl,leak,nll", "--json").stdout)
    for results in (kept, printed["runs"][0]["results"]):
        assert [result["details"]["data_note"] for result in results] == [note] * 4
    both = ok("eval", "run", "twin", "--metrics", "skl").stdout
    assert both.count(note) == 1

"""`dpvae traverse` through the entry point: what each option draws, writes and refuses."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.cli.test_commands import ok, run
from tests.data.synthetic import draw_all
from tests.small import SMALL

POINTS, GREY, FACES, VECTORS = "points", "grey", "faces", "vectors"
WITHOUT_DATA = [part for part in SMALL if not part.startswith("data.")]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """Return a folder with runs of points, grey arrays, colour pictures, and vectors with L = 3."""
    folder = tmp_path_factory.mktemp("traverse")
    generator = np.random.default_rng(0)
    np.save(folder / "grey.npy", generator.integers(0, 256, (60, 1, 6, 5), dtype=np.uint8))
    np.save(folder / "vectors.npy", generator.random((60, 4), dtype=np.float32))
    draw_all(folder / "in", 30, width=20, height=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DPVAE_CACHE", str(folder / "cache"))
        ok("train", "vae_moons", *SMALL, "--run-dir", POINTS)
        data = "data={kind: arrays, path: grey.npy}"
        ok("train", "vae_moons", data, *WITHOUT_DATA, "--run-dir", GREY)
        data = "data={kind: folder, path: in, size: 8}"
        ok("train", "vae_moons", data, *WITHOUT_DATA, "--run-dir", FACES)
        data = "data={kind: arrays, path: vectors.npy}"
        three = "architecture.latent_dim=3"
        ok("train", "vae_moons", data, *WITHOUT_DATA, three, "--run-dir", VECTORS)
    return folder


@pytest.fixture(autouse=True)
def there(workshop, monkeypatch):
    monkeypatch.chdir(workshop)
    monkeypatch.setenv("DPVAE_CACHE", str(workshop / "cache"))


def walked(out, *arguments):
    """Run the command; return the arrays and the record, whose lowest values must agree."""
    done = ok("traverse", *arguments, "--out", out)
    [arrays] = [np.load(path) for path in done.stdout.split() if path.endswith(".npz")]
    [document] = [path for path in done.stdout.split() if path.endswith(".json")]
    with open(document) as file:  # noqa: PTH123
        record = json.load(file)
    if "walks" in record:
        lowest = [walk["lowest_log_q"] for walk in record["walks"]]
        np.testing.assert_allclose(lowest, arrays["path_log_q"].min(axis=1))
        for value in lowest:
            assert f"{value:.4g} nats" in done.stderr
    return dict(arrays), record


def test_alone_it_draws_a_line_and_sweeps():
    done = ok("traverse", POINTS)
    stem = f"{POINTS}/traversals/line-sweep"
    assert done.stdout.split() == [f"{stem}.png", f"{stem}.npz", f"{stem}.json"]
    with open(f"{stem}.json") as file:  # noqa: PTH123
        record = json.load(file)
    assert record["run"] == POINTS
    assert [(walk["kind"], walk["space"]) for walk in record["walks"]] == [
        ("line", "z0"),
        ("sweep", "z"),
        ("sweep", "z"),
    ]
    assert record["walks"][0]["examples"] == ["0", "1"]
    assert record["walks"][1]["examples"] == ["0"]
    assert record["walks"][0]["dimension"] is None
    assert np.load(f"{stem}.npz")["walk_decoded"].shape == (3, 11, 2)


@pytest.mark.parametrize(("space", "spaces"), [("z0", ["z0"]), ("z", ["z"]), ("both", ["z0", "z"])])
def test_between(space, spaces, tmp_path):
    arrays, record = walked(tmp_path, POINTS, "--between", 2, 5, "--space", space)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"line-{space}.{suffix}" for suffix in ("png", "npz", "json")
    }
    assert list(arrays["walk_space"]) == spaces
    assert [walk["examples"] for walk in record["walks"]] == [["2", "5"]] * len(spaces)
    ok("encode", POINTS, "--out", tmp_path / "codes.npz")
    codes = np.load(tmp_path / "codes.npz")["mean"][[2, 5]]
    for walk in arrays["walk_z"]:
        np.testing.assert_allclose(walk[[0, -1]], codes, atol=1e-4)


def test_between_pictures_and_numbers(tmp_path):
    _, record = walked(tmp_path, FACES, "--between", "in/000003.png", 1)
    assert record["walks"][0]["examples"] == ["in/000003.png", "1"]
    arrays, _ = walked(tmp_path / "x.pdf", FACES, "--between", "in/000003.png", "in/000003.png")
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")
    np.testing.assert_allclose(np.ptp(arrays["walk_z"], axis=1), 0, atol=1e-5)


@pytest.mark.parametrize("space", ["z0", "z", "both"])
def test_dimensions_range_and_from(space, tmp_path):
    options = ("--dimensions", 2, "--range", 3, "--from", 4, "--steps", 5, "--space", space)
    arrays, record = walked(tmp_path, VECTORS, *options)
    assert len(record["walks"]) == 2 * (1 + (space == "both"))
    assert {walk["kind"] for walk in record["walks"]} == {"sweep"}
    assert {walk["examples"][0] for walk in record["walks"]} == {"4"}
    np.testing.assert_allclose(arrays["walk_position"][0], [-3, -1.5, 0, 1.5, 3])


@pytest.mark.parametrize("run_folder", [POINTS, GREY, FACES])
@pytest.mark.parametrize("space", ["z0", "z", "both"])
def test_grid(run_folder, space, tmp_path):
    arrays, record = walked(tmp_path, run_folder, "--grid", "--space", space, "--steps", 4)
    count = 1 + (space == "both")
    assert arrays["plane_decoded"].shape[:3] == (count, 4, 4)
    assert [part["lowest_log_q"] for part in record["grid"]] == arrays["lowest_log_q"].tolist()
    assert (tmp_path / f"grid-{space}.png").stat().st_size > 5_000


@pytest.mark.parametrize("run_folder", [POINTS, GREY, FACES])
def test_gif(run_folder, tmp_path):
    options = ("--between", 0, 1, "--dimensions", 1, "--space", "both", "--gif", "--steps", 4)
    done = ok("traverse", run_folder, *options, "--out", tmp_path / "x.png")
    assert f"{tmp_path}/x.gif" in done.stdout.split()
    with Image.open(tmp_path / "x.gif") as image:
        assert image.info["loop"] == 0
        assert 1 < image.n_frames <= 6


def test_gif_has_more_steps_by_default(tmp_path):
    arrays, _ = walked(tmp_path, POINTS, "--between", 0, 1, "--gif")
    assert arrays["walk_z"].shape == (1, 41, 2)
    with Image.open(tmp_path / "line.gif") as image:
        assert image.n_frames == 80


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([POINTS, "--between", "0", "99"], "--between: 99 is not among the 40 test examples"),
        ([POINTS, "--between", "-1", "1"], "-1 is not among"),
        ([POINTS, "--between", "0", "me.jpg"], "me.jpg is neither a number nor a file"),
        ([POINTS, "--between", "0", "in/000001.png"], "kind moons an image cannot"),
        (
            [GREY, "--dimensions", "1", "--from", "in/000001.png"],
            "--from: in/000001.png: with data",
        ),
        ([FACES, "--between", "0", "grey.npy"], "grey.npy cannot be read as an image"),
        ([VECTORS, "--grid"], "needs latent_dim 2; this model has 3"),
        ([VECTORS, "--gif"], "shape 4 are neither"),
        ([POINTS, "--grid", "--between", "0", "1"], "has its own picture"),
        ([POINTS, "--grid", "--gif"], "--gif is for --between and --dimensions"),
        ([POINTS, "--between", "0", "1", "--range", "2"], "--range is for --dimensions"),
        ([POINTS, "--between", "0", "1", "--from", "2"], "--from is for --dimensions"),
        ([POINTS, "--out", "x.gif"], ".png or .pdf"),
    ],
)
def test_mistakes_end_with_a_message(arguments, said):
    done = run("traverse", *arguments)
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.output
    assert done.stdout == ""

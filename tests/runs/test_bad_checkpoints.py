"""A checkpoint that is not what it was: refused, named, and a good one beside it offered."""

import os
import random
import shutil

import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from dpvae_cli.cli.app import app
from dpvae_cli.foundation.errors import CheckpointError
from dpvae_cli.foundation.serialization import pack_tensors, unpack_tensors
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.runs.loaded_run import load, load_run
from dpvae_cli.runs.run_folder import BEST, CURRENT, PREVIOUS
from dpvae_cli.training.train import train
from tests.same import assert_same_run
from tests.small import small_recipe

FLIPS, CUTS = int(os.environ.get("DPVAE_FLIPS", "300")), 60


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(small_recipe("vae"), folder)
    return folder


@pytest.fixture
def run(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def same(one, other):
    return (
        (one.recipe, one.iteration, one.facts) == (other.recipe, other.iteration, other.facts)
        and one.tensors.keys() == other.tensors.keys()
        and all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)
    )


def flipped(content, position, bit):
    changed = bytearray(content)
    changed[position] ^= 1 << bit
    return bytes(changed)


def test_no_flipped_bit_changes_what_is_read(whole, tmp_path):
    """safetensors takes most flips for good; what passes here reads as the original does."""
    content, good = (whole / CURRENT).read_bytes(), checkpoints.read_checkpoint(whole / CURRENT)
    draw, path = random.Random(0), tmp_path / "x.pt"
    refused = harmless = deceived = 0
    for _ in range(FLIPS):
        path.write_bytes(flipped(content, draw.randrange(len(content)), draw.randrange(8)))
        try:
            assert same(checkpoints.read_checkpoint(path), good)
            harmless += 1
        except CheckpointError:
            refused += 1
            deceived += passes_safetensors(path)
    print(f"{refused} refused, of which safetensors takes {deceived}; {harmless} as they were")  # noqa: T201
    assert refused > 0.97 * FLIPS
    assert deceived > 0.5 * FLIPS, "else the checksums would be of no use"


def passes_safetensors(path):
    try:
        safetensors.torch.load(path.read_bytes())
    except Exception:
        return False
    return True


def test_no_cut_file_is_read(whole, tmp_path):
    content = (whole / CURRENT).read_bytes()
    draw = random.Random(0)
    for length in [0, 1, 4, 100, len(content) - 1, *draw.choices(range(len(content)), k=CUTS)]:
        (tmp_path / "x.pt").write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            checkpoints.read_checkpoint(tmp_path / "x.pt")


def newer(path):
    meta, tensors = unpack_tensors(path.read_bytes())
    path.write_bytes(pack_tensors(meta | {"version": 99}, tensors))


def other_weights(path, part="model"):
    """Leave the file whole and give a tensor another shape."""
    meta, tensors = unpack_tensors(path.read_bytes())
    name = next(name for name in tensors if name.startswith(f"{part}.encoder"))
    path.write_bytes(pack_tensors(meta, tensors | {name: torch.zeros(3, 3)}))


def flip(path):
    content = path.read_bytes()
    path.write_bytes(flipped(content, len(content) // 2, 3))


SPOILED = {
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-100]), "cut short"),
    "flipped": (flip, "checksum"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "text": (lambda path: path.write_bytes(b"weights"), "not a dpvae checkpoint"),
    "foreign": (lambda path: torch.save({"w": torch.zeros(2)}, path), "not a dpvae checkpoint"),
    "newer": (newer, "newer dpvae"),
    "another net": (other_weights, "does not fit its recipe"),
    "missing": (lambda path: path.unlink(), "no checkpoint at"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "Is a directory"),
}
each_way = pytest.mark.parametrize("way", SPOILED)


@each_way
def test_every_way_of_opening_names_the_file_and_offers_the_one_before_it(way, run):
    spoil, said = SPOILED[way]
    spoil(run / CURRENT)
    for opening in (load, load_run):
        with pytest.raises(CheckpointError, match=said) as caught:
            opening(run)
        assert str(run / CURRENT) in str(caught.value)
        assert f"{PREVIOUS} beside it is whole (iteration 15)" in caught.value.hint
        assert str(run / PREVIOUS) in caught.value.hint
        assert f"dpvae train --resume --from-previous --run-dir {run}" in caught.value.hint
        opening(run / PREVIOUS)


@each_way
def test_what_the_error_says_to_type_goes_on_to_the_bit(way, run, whole):
    """Nothing goes back by itself: --resume alone leaves everything as it is."""
    SPOILED[way][0](run / CURRENT)
    before = sorted((path.name, path.stat().st_size) for path in run.iterdir())
    refused = CliRunner().invoke(app, ["train", "--resume", "--run-dir", str(run), "--quiet"])
    assert refused.exit_code == 4, refused.output
    assert "Traceback" not in refused.output
    assert sorted((path.name, path.stat().st_size) for path in run.iterdir()) == before
    command = refused.stderr.partition("or go on from it: dpvae ")[2].splitlines()[0].split()
    if (run / CURRENT).is_dir():
        (run / CURRENT).rmdir()
    done = CliRunner().invoke(app, [*command, "--quiet"])
    assert done.exit_code == 0, done.output
    assert_same_run(whole, run)
    assert checkpoints.read_checkpoint(run / PREVIOUS).iteration == 15


def test_moments_of_another_shape_are_refused_by_name(run):
    meta, tensors = unpack_tensors((run / CURRENT).read_bytes())
    tensors["optimizer.0.exp_avg"] = torch.zeros(3, 3, 3)
    (run / CURRENT).write_bytes(pack_tensors(meta, tensors))
    with pytest.raises(CheckpointError, match=r"exp_avg is \(3, 3, 3\)") as caught:
        train(small_recipe("vae"), run, mode="resume")
    assert str(run / CURRENT) in str(caught.value)
    assert "--from-previous" in caught.value.hint


def test_without_a_good_one_none_is_offered(run):
    for name in (CURRENT, PREVIOUS, BEST):
        flip(run / name)
    with pytest.raises(CheckpointError) as caught:
        load(run)
    assert "beside it" not in caught.value.hint


def test_the_best_one_is_offered_where_only_that_is_whole(run):
    flip(run / CURRENT)
    flip(run / PREVIOUS)
    with pytest.raises(CheckpointError) as caught:
        load(run)
    assert f"name it, {run / BEST}." in caught.value.hint
    assert "--resume" not in caught.value.hint


def test_a_damaged_best_one_offers_the_others(run):
    flip(run / BEST)
    with pytest.raises(CheckpointError, match=BEST) as caught:
        load(run / BEST)
    assert f"name it, {run / PREVIOUS}" in caught.value.hint


def test_a_missing_previous_one_says_so_and_changes_nothing(run):
    (run / PREVIOUS).unlink()
    with pytest.raises(CheckpointError, match=f"no checkpoint at {run / PREVIOUS}"):
        train(small_recipe("vae"), run, mode="resume_previous")
    assert checkpoints.read_checkpoint(run / CURRENT).iteration == 20


def test_from_previous_is_for_resume(run):
    done = CliRunner().invoke(app, ["train", "vae_moons", "--from-previous", "--run-dir", str(run)])
    assert done.exit_code == 2
    assert "--from-previous is for --resume" in done.stderr


def test_a_file_that_may_not_be_read_is_refused(run, monkeypatch):
    """Whoever runs tests as root may read everything, so the refusal is the test's."""
    path = run / CURRENT
    original = type(path).open

    def guarded(self, *arguments, **options):
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        return original(self, *arguments, **options)

    monkeypatch.setattr(type(path), "open", guarded)
    with pytest.raises(CheckpointError, match="cannot be read: Permission denied"):
        load(run)

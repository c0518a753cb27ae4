"""Pictures from anywhere, through the command line: each is converted as documented, or named."""

import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from dpvae_cli.cli.app import app
from tests.data.synthetic import draw, draw_all
from tests.small import SMALL

FOLDER = "data={kind: folder, path: in, size: 4}"
SMALL_FOLDER = tuple(part for part in SMALL if not part.startswith("data."))
TRAIN = ("train", "vae_moons", FOLDER, *SMALL_FOLDER, "--quiet", "--overwrite", "--run-dir")


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a folder of thirty good pictures and a run on them."""
    folder = tmp_path_factory.mktemp("pictures")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DPVAE_CACHE", str(folder / "cache"))
        draw_all(folder / "in", 30, width=9, height=9)
        assert invoke(*TRAIN, "run").exit_code == 0
    return folder


@pytest.fixture
def here(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("DPVAE_CACHE", str(tmp_path / "copy" / "cache"))
    monkeypatch.delenv("DPVAE_DATA", raising=False)
    return tmp_path / "copy"


def declared(path, width, height):
    """Write a PNG of a few bytes that says it is this large."""
    content = bytearray(draw(path.with_suffix(".png"), 3, 3).read_bytes())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.with_suffix(".png").unlink()
    path.write_bytes(content)


def half(path):
    content = draw(path, 200, 200, seed=3).read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flat(path):
    """Write a PNG of a hundred million black pixels, a hundred kilobytes long."""
    image = Image.new("1", (10_000, 10_000))
    image.save(path, "PNG")


BAD = {
    "a bomb that says so": (lambda path: declared(path, 60_000, 60_000), "a decompression bomb"),
    "a bomb": (flat, "a decompression bomb: 10000x10000"),
    "no bytes": (lambda path: path.write_bytes(b""), "the file is empty"),
    "half a picture": (half, ""),
    "a text": (lambda path: path.write_text("<html>404</html>"), "not an image in a known format"),
    "a drawing that runs": (
        lambda path: path.write_text("<svg><script>alert(1)</script></svg>"),
        "not an image in a known format",
    ),
    "a program for a printer": (
        lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        "not an image in a known format",
    ),
    "a link to itself": (lambda path: path.symlink_to(path.name), "no file, or a broken link"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "no file, or a broken link"),
    "a pipe": (os.mkfifo, "no file"),
    "fractions": (
        lambda path: Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(path, "TIFF"),
        "its values are not of 8 or 16 bits",
    ),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_in_a_folder_is_named(name, here):
    spoil, said = BAD[name]
    spoil(here / "in" / "bad.jpg")
    done = invoke(*TRAIN, "new")
    assert done.exit_code == 3, done.output
    assert "1 of 31 images" in done.stderr
    assert f"bad.jpg: {said}" in done.stderr
    assert "data.on_error=skip" in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_of_the_user_is_named(name, here):
    spoil, said = BAD[name]
    spoil(here / "bad.jpg")
    done = invoke("traverse", "run", "--between", "0", "bad.jpg", "--steps", "2")
    assert done.exit_code == 2, done.output
    assert "--between: bad.jpg" in done.stderr
    assert "neither a number nor a file" in done.stderr or said in done.stderr
    assert "Traceback" not in done.output


def test_a_folder_with_the_name_of_a_picture(here):
    """In a folder of pictures it is a folder like others; as a picture it is none."""
    (here / "in" / "x.jpg").mkdir()
    draw(here / "in" / "x.jpg" / "y.png", 9, 9, seed=77)
    assert invoke(*TRAIN, "new").exit_code == 0
    done = invoke("traverse", "run", "--between", "0", "in/x.jpg", "--steps", "2")
    assert done.exit_code == 2
    assert "in/x.jpg cannot be read as an image: no file" in done.stderr


def test_links_that_go_in_circles_end(here):
    (here / "in" / "again").symlink_to(here / "in")
    (here / "in" / "up").symlink_to(here)
    assert invoke(*TRAIN, "new").exit_code == 0


def sixteen(path):
    values = np.linspace(0, 65_535, 81).astype(np.uint16).reshape(9, 9)
    Image.fromarray(values).save(path, "PNG")


CONVERTED = {
    "CMYK": lambda path: draw(path, 9, 9, mode="CMYK"),
    "palette": lambda path: Image.new("P", (9, 9)).save(path, "GIF"),
    "alpha": lambda path: Image.new("RGBA", (9, 9), (1, 2, 3, 99)).save(path, "PNG"),
    "grey and alpha": lambda path: Image.new("LA", (9, 9), (1, 99)).save(path, "PNG"),
    "one bit": lambda path: Image.new("1", (9, 9)).save(path, "PNG"),
    "16 bits": sixteen,
    "another suffix": lambda path: Image.new("RGB", (9, 9)).save(path, "BMP"),
    "an animation": lambda path: Image.new("P", (9, 9)).save(
        path, "GIF", save_all=True, append_images=[Image.new("P", (9, 9), 1)]
    ),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_other_modes_are_converted(name, here):
    CONVERTED[name](here / "in" / "other.jpg")
    assert invoke(*TRAIN, "new").exit_code == 0
    done = invoke("traverse", "run", "--between", "0", "in/other.jpg", "--steps", "2")
    assert done.exit_code == 0, done.output
    assert Path("run/traversals").is_dir()

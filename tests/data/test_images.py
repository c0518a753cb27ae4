"""Finding pictures, and reading one whatever its colours, size and damage."""

import io
import os
import struct
import sys
import types
import zlib

import numpy as np
import pytest
import torchvision
from PIL import Image, ImageCms

from dpvae_cli.data import Folder, images
from dpvae_cli.data.images import (
    CropError,
    ImageTransform,
    UnreadableImageError,
    find_images,
    read_image,
    suffixes,
)
from dpvae_cli.foundation.errors import MissingError, UsageError
from tests.data.synthetic import draw, pixels

WHOLE = ImageTransform(crop=None, size=8, colour="rgb")
GREY = ImageTransform(crop=None, size=8, colour="grey")


@pytest.mark.parametrize(("width", "height"), [(89, 109), (178, 218), (40, 31), (31, 40)])
@pytest.mark.parametrize("colour", ["rgb", "grey"])
def test_crop_and_size_are_torchvision_s(tmp_path, width, height, colour):
    path = draw(tmp_path / "a.png", width, height)
    ours = read_image(path, ImageTransform(crop=20, size=9, colour=colour))
    image = Image.open(path).convert("RGB" if colour == "rgb" else "L")
    square = torchvision.transforms.functional.center_crop(image, [20])
    theirs = torchvision.transforms.functional.resize(square, [9])
    expected = torchvision.transforms.functional.pil_to_tensor(theirs)
    assert np.array_equal(ours, expected.numpy())


def test_without_a_crop_the_largest_centred_square_is_taken(tmp_path):
    values = np.zeros((10, 30, 3), np.uint8)
    values[:, 10:20] = 200
    Image.fromarray(values).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png", WHOLE) == 200).all()


def test_small_pictures_grow(tmp_path):
    assert read_image(draw(tmp_path / "a.png", 3, 3), WHOLE).shape == (3, 8, 8)


def test_a_crop_larger_than_the_picture_names_one_that_fits(tmp_path):
    path = draw(tmp_path / "a.png", 89, 109)
    with pytest.raises(CropError, match=r"data.crop=148.*a.png.*89x109") as caught:
        read_image(path, ImageTransform(crop=148, size=8, colour="rgb"))
    assert isinstance(caught.value, UsageError)
    assert "data.crop=89" in caught.value.hint


def of_colour(colour, size=(8, 8)):
    return Image.new("RGB", size, colour)


RED = (255, 0, 0)
ODD = {
    "palette": lambda: of_colour(RED).convert("P"),
    "CMYK": lambda: of_colour(RED).convert("CMYK"),
    "opaque alpha": lambda: of_colour(RED).convert("RGBA"),
    "YCbCr": lambda: of_colour(RED).convert("YCbCr"),
}
RAW_YCBCR = pytest.mark.skipif(
    int(Image.__version__.split(".")[0]) < 13, reason="older Pillow cannot read what it wrote"
)
CASES = [pytest.param(make, marks=[RAW_YCBCR] * (name == "YCbCr")) for name, make in ODD.items()]


@pytest.mark.parametrize("make", CASES, ids=ODD)
def test_other_colours_are_converted(tmp_path, make):
    path = tmp_path / "a.tif"
    make().save(path)
    red, green, blue = read_image(path, WHOLE)
    assert (red > 245).all()
    assert (green < 10).all()
    assert (blue < 10).all()


def test_cmyk_jpeg(tmp_path):
    of_colour(RED).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    red, green, _ = read_image(tmp_path / "a.jpg", WHOLE)
    assert (red > 240).all()
    assert (green < 15).all()


def transparent(kind):
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    if kind == "palette":
        image = Image.new("P", (8, 8), 0)
        image.putpalette([0, 0, 0] * 256)
        return image, {"transparency": 0}
    return clear.convert(kind), {}


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette"])
@pytest.mark.parametrize("transform", [WHOLE, GREY])
def test_transparency_becomes_white(tmp_path, kind, transform):
    image, options = transparent(kind)
    image.save(tmp_path / "a.png", **options)
    assert (read_image(tmp_path / "a.png", transform) == 255).all()


def test_half_transparent_colour_is_mixed_with_white(tmp_path):
    Image.new("RGBA", (8, 8), (0, 0, 255, 51)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", WHOLE)[:, 0, 0].tolist() == [204, 204, 255]


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_become_eight(tmp_path, suffix):
    values = np.repeat(np.array([[0, 257, 32896, 65535]], np.uint16), 4, axis=0)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    found = read_image(tmp_path / f"a.{suffix}", ImageTransform(None, 4, "grey"))
    assert found[0, 0].tolist() == [0, 1, 128, 255]
    assert (read_image(tmp_path / f"a.{suffix}", ImageTransform(None, 4, "rgb")) == found).all()


def test_one_bit(tmp_path):
    Image.new("1", (8, 8), 1).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png", WHOLE) == 255).all()


def test_floating_point_pictures_are_refused(tmp_path):
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(UnreadableImageError, match="8 or 16 bits"):
        read_image(tmp_path / "a.tif", WHOLE)


def test_the_camera_s_orientation_is_followed(tmp_path):
    image = Image.new("RGB", (8, 8), "black")
    image.paste("white", (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "a.png", exif=exif)
    assert read_image(tmp_path / "a.png", WHOLE)[0, :, 0].tolist() == [0] * 4 + [255] * 4


def test_a_colour_profile_does_no_harm(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    of_colour(RED).save(tmp_path / "a.png", icc_profile=profile)
    assert (read_image(tmp_path / "a.png", WHOLE)[0] == 255).all()


def cut(path):
    content = draw(path, 200, 200, seed=3).read_bytes()
    path.write_bytes(content[: len(content) // 2])


def eps(path):
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")


DAMAGE = {
    "nothing": (lambda path: path.write_bytes(b""), "empty"),
    "text": (lambda path: path.write_text("<html>404</html>"), "not an image"),
    "half a JPEG": (cut, "truncated|stream"),
    "a folder": (lambda path: path.mkdir(), "no file"),
    "a broken link": (lambda path: path.symlink_to("nowhere"), "broken link"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "broken link"),
    "a pipe": (os.mkfifo, "no file"),
    "a program for a printer": (eps, "not an image"),
}


@pytest.mark.parametrize(("spoil", "reason"), DAMAGE.values(), ids=DAMAGE)
def test_what_is_no_picture_says_why(tmp_path, spoil, reason):
    path = tmp_path / "a.jpg"
    spoil(path)
    with pytest.raises(UnreadableImageError, match=reason):
        read_image(path, WHOLE)


@pytest.mark.filterwarnings("ignore")  # Pillow's own remarks on the damage
@pytest.mark.parametrize(
    "suffix",
    ["png", "tif", "gif", "bmp", "jpg", "webp", "avif", "jp2", "tga", "pcx", "qoi", "dds", "sgi"],
)
def test_a_changed_byte_raises_nothing_but_unreadable(tmp_path, suffix):
    path = draw(tmp_path / f"a.{suffix}", 20, 20)
    content, refused = path.read_bytes(), []
    for where in range(0, min(len(content), 200), 3):
        path.write_bytes(content[:where] + bytes([content[where] ^ 0xFF]) + content[where + 1 :])
        try:
            assert read_image(path, WHOLE).shape == (3, 8, 8)
        except UnreadableImageError as error:
            refused.append(str(error))
    assert refused
    assert all(refused)


def test_a_decompression_bomb_is_refused_unread(tmp_path, monkeypatch):
    path = draw(tmp_path / "a.png", 30, 30)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(UnreadableImageError, match="decompression bomb: 30x30"):
        read_image(path, ImageTransform(crop=None, size=8, colour="rgb", max_pixels=899))


def test_a_bomb_beyond_pillow_s_own_limit_is_refused(tmp_path):
    content = bytearray(draw(tmp_path / "a.png", 3, 3).read_bytes())
    content[16:24] = struct.pack(">II", 20_000, 20_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UnreadableImageError, match="decompression bomb"):
        read_image(tmp_path / "a.png", WHOLE)


def test_names_are_sorted_pictures_of_all_folders(tmp_path):
    wanted = ["b.PNG", "sub.jpg/deeper/x.jpeg", "z/a.webp"]
    for name in (*wanted, ".hidden.jpg", ".thumbs/a.jpg", "notes.txt", "jpg"):
        draw(tmp_path / "x.png", 3, 3)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x.png").rename(tmp_path / name)
    (tmp_path / "empty.jpg").mkdir()
    assert find_images(tmp_path).names == wanted


def test_links_to_folders_are_followed_once(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    draw(inside / "a.png", 3, 3)
    draw(outside / "b.png", 3, 3)
    (inside / "there").symlink_to(outside)
    (inside / "again").symlink_to(outside)
    (inside / "loop").symlink_to(inside)
    (outside / "back").symlink_to(inside)
    (inside / "self").symlink_to("self")
    names = find_images(inside).names
    assert sorted(name.rpartition("/")[2] for name in names) == ["a.png", "b.png"]


def test_pictures_in_folders_of_runs_are_not_data(tmp_path):
    draw(tmp_path / "cat.png", 3, 3)
    draw(tmp_path / "recipe.yaml" / "dog.png", 3, 3)
    for run in ("runs/a", "deep/er/b"):
        draw(tmp_path / run / "samples" / "prior.png", 3, 3)
        draw(tmp_path / run / "samples.png", 3, 3)
        (tmp_path / run / "recipe.yaml").touch()
    (tmp_path / "runs/a/checkpoint.pt").touch()
    (tmp_path / "deep/er/b/environment.json").touch()
    draw(tmp_path / "study" / "figures" / "moons.png", 3, 3)
    (tmp_path / "study" / "study.yaml").touch()
    listing = find_images(tmp_path)
    assert listing.names == ["cat.png", "recipe.yaml/dog.png"]
    assert listing.remark == "folders of dpvae left out: deep/er/b, runs/a, study"


def test_a_folder_without_pictures_says_how_they_end(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(MissingError, match="holds no images") as caught:
        find_images(tmp_path)
    assert ".jpg" in caught.value.hint


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    locked = tmp_path / "locked"
    locked.mkdir()
    original = os.scandir

    def scandir(path):
        if str(path) == str(locked):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(MissingError, match=r"locked cannot be listed: Permission denied"):
        find_images(tmp_path)


WRITTEN = ("jpe", "jfif", "avif", "jp2", "apng", "dib", "tga", "pcx", "qoi", "mpo", "PnM", "xbm")


@pytest.mark.parametrize("suffix", WRITTEN)
def test_what_pillow_reads_is_found_and_read(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    mode = {"PnM": "L", "xbm": "1"}.get(suffix, "RGB")
    draw(tmp_path / "x.png", 20, 20)
    Image.open(tmp_path / "x.png").convert(mode).save(path)
    assert find_images(tmp_path).names == [path.name, "x.png"]
    assert read_image(path, WHOLE).shape == (3, 8, 8)


@pytest.mark.parametrize("suffix", [".eps", ".ps", ".wmf", ".emf", ".pdf", ".h5", ".mpg", ".ico"])
def test_formats_that_start_programs_or_are_no_pictures_stay_out(suffix):
    assert suffix not in suffixes()


def test_a_registered_plugin_is_used(tmp_path, monkeypatch):
    """Stand in for pillow-heif with a format that reads the PNG inside."""
    plugin = types.ModuleType("pillow_heif")

    def open_heif(file, filename):
        assert file.read(4) == b"HEIF"
        image = Image.open(io.BytesIO(file.read()))
        image.format = "HEIF"
        return image

    def register_heif_opener():
        Image.register_open("HEIF", open_heif, lambda start: start.startswith(b"HEIF"))
        Image.register_extension("HEIF", ".heic")

    plugin.register_heif_opener = register_heif_opener
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    for known in (Image.OPEN, Image.EXTENSION):
        monkeypatch.setattr(Image, "OPEN" if known is Image.OPEN else "EXTENSION", dict(known))
    for function in (images.formats, images.suffixes):
        function.cache_clear()
    draw(tmp_path / "x.png", 20, 20)
    path = tmp_path / "a.HEIC"
    path.write_bytes(b"HEIF" + (tmp_path / "x.png").read_bytes())
    try:
        assert find_images(tmp_path).names == ["a.HEIC", "x.png"]
        assert np.array_equal(read_image(path, WHOLE), read_image(tmp_path / "x.png", WHOLE))
    finally:
        for function in (images.formats, images.suffixes):
            function.cache_clear()


def test_a_picture_beyond_pillow_s_own_limit_can_be_allowed(tmp_path, monkeypatch):
    path = draw(tmp_path / "a.png", 30, 30)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow refuses more than twice as many
    allowed = Folder(path=str(tmp_path), size=8, max_pixels=900)
    assert allowed.load_image(path).stored.shape == (1, 3, 8, 8)
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(UsageError, match="30x30 = 900 pixels, 899 is the limit"):
        allowed.model_copy(update={"max_pixels": 899}).load_image(path)


def test_the_fixture_is_a_ramp():
    assert len(np.unique(pixels(40, 40).reshape(-1, 3), axis=0)) > 100

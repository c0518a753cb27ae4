"""The Inception network: pytorch-fid's numbers, and weights that are whole, partial or foreign."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dpvae_cli.evaluation import features, inception
from dpvae_cli.evaluation.feature_statistics import feature_statistics
from dpvae_cli.evaluation.features import FeatureOptions
from dpvae_cli.foundation import download as downloads
from dpvae_cli.foundation.errors import DpvaeError, MissingError
from dpvae_cli.mathematics.frechet import frechet_distance
from tests.evaluation.inception_weights import partial, put_into_hub, random_state
from tests.mathematics.test_frechet import SQRTM_STILL_TAKES_DISP

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def state():
    return random_state()


@pytest.fixture(scope="module")
def home(state, tmp_path_factory):
    """Return a folder for TORCH_HOME in which the random weights lie."""
    folder = tmp_path_factory.mktemp("torch")
    put_into_hub(folder, state)
    return folder


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv(inception.VARIABLE, raising=False)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(urls, *_, **__):
        raise OSError("no network in a test")

    monkeypatch.setattr(downloads, "download", refuse)


def picture_sets(count, *, channels):
    """Return two sets of 8-bit pictures that differ: noise, and blurred brighter noise."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(2 * count, channels, 20, 24, generator=generator)
    blurred = torch.nn.functional.avg_pool2d(noise[count:], 5, stride=1, padding=2) ** 0.5
    return [(part * 255).round() / 255 for part in (noise[:count], blurred)]


def written(folder, images):
    """Write images as PNG, one a file."""
    folder.mkdir()
    for index, image in enumerate((images * 255).round().to(torch.uint8)):
        array = image.permute(1, 2, 0).numpy()
        Image.fromarray(array.squeeze()).save(folder / f"{index:03}.png")
    return str(folder)


def statistics(extractor, images, *, batch):
    return feature_statistics(extractor, lambda some: some, images, lambda _: None, batch=batch)


def ours(sets, dimensions):
    extractor = features.build(FeatureOptions(dimensions=dimensions), CPU)
    found = [statistics(extractor, part, batch=7) for part in sets]
    return frechet_distance(*(x for one in found for x in (one.mean, one.covariance)))


def same_as_the_program(tmp_path, dimensions, count, channels):
    from pytorch_fid.fid_score import calculate_fid_given_paths

    sets = picture_sets(count, channels=channels)
    paths = [written(tmp_path / name, part) for name, part in zip("ab", sets, strict=True)]
    expected = calculate_fid_given_paths(paths, 16, "cpu", dimensions, num_workers=0)
    assert expected > 1e-3
    assert ours(sets, dimensions) == pytest.approx(float(expected), rel=1e-3)


needs_sqrtm = pytest.mark.skipif(
    not SQRTM_STILL_TAKES_DISP,
    reason="pytorch-fid's program calls scipy's sqrtm(disp=), which SciPy 1.18 has no more",
)


@needs_sqrtm
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("channels", [1, 3])
def test_the_pytorch_fid_program_gives_the_same(home, tmp_path, monkeypatch, channels):
    """Its own functions read PNG folders; ours never touch the disk."""
    monkeypatch.setenv("TORCH_HOME", str(home))
    same_as_the_program(tmp_path, 64, 68, channels)


@needs_sqrtm
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("dimensions", [192, 768, 2048])
def test_the_pytorch_fid_program_gives_the_same_at(home, tmp_path, monkeypatch, dimensions):
    monkeypatch.setenv("TORCH_HOME", str(home))
    same_as_the_program(tmp_path, dimensions, 40, 3)


@pytest.mark.parametrize("dimensions", inception.DIMENSIONS)
def test_features_are_those_of_their_network(home, monkeypatch, dimensions):
    from pytorch_fid.inception import InceptionV3

    monkeypatch.setenv("TORCH_HOME", str(home))
    network = InceptionV3([InceptionV3.BLOCK_INDEX_BY_DIM[dimensions]]).eval()
    [images, _] = picture_sets(2, channels=3)
    with torch.no_grad():
        expected = network(images)[0].mean(dim=(2, 3))
    extractor = features.build(FeatureOptions(dimensions=dimensions), CPU)
    found = extractor(images)
    assert found.shape == (2, dimensions)
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-4


def test_building_leaves_random_numbers_and_pytorch_fid_as_they_were(home, monkeypatch):
    from pytorch_fid import inception as theirs

    monkeypatch.setenv("TORCH_HOME", str(home))
    fetch, before = theirs.load_state_dict_from_url, torch.get_rng_state()
    inception.load_inception(inception.hub_file(), 64)
    assert torch.equal(torch.get_rng_state(), before)
    assert theirs.load_state_dict_from_url is fetch


def test_partial_weights_serve_up_to_768(state, tmp_path):
    torch.save(partial(state), tmp_path / "partial.pth")
    torch.save(state, tmp_path / "whole.pth")
    [images, _] = picture_sets(2, channels=1)
    shown = features.quantize(images)
    with torch.no_grad():
        found, expected = (
            inception.load_inception(tmp_path / name, 768)(shown)
            for name in ("partial.pth", "whole.pth")
        )
    assert torch.equal(found, expected)
    with pytest.raises(MissingError, match="Mixed_7b") as caught:
        inception.load_inception(tmp_path / "partial.pth")
    assert "--fid-dimensions 768" in caught.value.hint


def test_other_holes_are_no_partial_weights(state, tmp_path):
    path = tmp_path / "holes.pth"
    for change in (
        lambda kept: kept.pop("Mixed_6e.branch1x1.conv.weight"),
        lambda kept: kept.update({"Mixed_9z.conv.weight": torch.zeros(1)}),
        lambda kept: kept.update({"fc.weight": torch.zeros(1)}),
    ):
        kept = partial(state)
        change(kept)
        torch.save(kept, path)
        with pytest.raises(MissingError, match="does not hold the FID Inception weights"):
            inception.load_inception(path, 64)


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("write", [torch.save, lambda x, p: p.write_bytes(pickle.dumps(x))])
def test_code_in_weights_is_refused_and_does_not_run(write, tmp_path):
    trace, path = tmp_path / "trace", tmp_path / "weights.pth"
    write({"Conv2d_1a_3x3.conv.weight": Malicious(trace)}, path)
    with pytest.raises(MissingError, match="more than tensors"):
        inception.load_inception(path, 64)
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04"])
def test_damaged_files_are_refused(content, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(MissingError, match=r"weights\.pth"):
        inception.load_inception(path, 64)


def test_tensors_that_are_no_state_dict_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save([torch.zeros(1)], path)
    with pytest.raises(MissingError, match="no state dict"):
        inception.load_inception(path, 64)


def test_where_weights_are_looked_for(tmp_path, monkeypatch):
    """The option, then the variable, then torch's hub cache."""
    named, variable = tmp_path / "named.pth", tmp_path / "variable.pth"
    for path in (named, variable, inception.hub_file()):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert inception.weights_file() == inception.hub_file()
    monkeypatch.setenv(inception.VARIABLE, str(variable))
    assert inception.weights_file() == variable
    assert inception.weights_file(named) == named
    with pytest.raises(MissingError, match="--inception-weights"):
        inception.weights_file(tmp_path / "nothing.pth")
    variable.unlink()
    with pytest.raises(MissingError, match=inception.VARIABLE):
        inception.weights_file()


@pytest.mark.parametrize("download", [True, False])
def test_no_weights_anywhere_names_all_places(download):
    with pytest.raises(MissingError) as caught:
        inception.weights_file(download=download)
    said = f"{caught.value} {caught.value.hint}"
    for place in ("--inception-weights", inception.VARIABLE, str(inception.hub_file())):
        assert place in said
    assert ("no network in a test" in said) == download
    assert caught.value.exit_code == 3


def test_a_download_is_checked_by_its_digest(monkeypatch):
    asked = []
    monkeypatch.setattr(downloads, "download", lambda *a, **k: asked.append((*a, k)))
    path = inception.weights_file()
    [([url], target, options)] = asked
    assert target == path == inception.hub_file()
    assert options == {"checksum": "sha256:6726825d"}
    assert inception.FILE in url


@pytest.mark.data
def test_the_real_weights_tell_noise_from_pictures(tmp_path):
    """Partial weights suffice at 768 dimensions: noise is far from smooth pictures."""
    root = Path(os.environ.get("DPVAE_DATA", "nowhere"))
    found = sorted((root / "inception").glob("*.pth"))
    if not found:
        pytest.skip("no inception/*.pth under DPVAE_DATA")
    extractor = features.build(FeatureOptions(dimensions=768, weights=found[0]), CPU)
    noise, smooth = picture_sets(24, channels=3)
    halves = [noise[:12], noise[12:], smooth[:12]]
    half, other, third = (statistics(extractor, part, batch=6) for part in halves)

    def distance(a, b):
        return frechet_distance(a.mean, a.covariance, b.mean, b.covariance)

    assert distance(half, third) > 5 * distance(half, other) > 0


def test_pixels_are_clipped_rounded_and_repeated():
    images = torch.tensor([-1.0, 0.4, 0.501, 2.0]).reshape(1, 1, 2, 2)
    shown = features.quantize(images)
    expected = np.array([0, 102, 128, 255], dtype=np.float32) / 255
    assert shown.shape == (1, 3, 2, 2)
    for channel in shown[0]:
        np.testing.assert_array_equal(channel.flatten(), expected)
    with pytest.raises(DpvaeError, match="2 channels"):
        features.quantize(torch.zeros(1, 2, 3, 3))

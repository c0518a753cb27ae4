"""A run whose prior follows learned velocities, through the commands that carry it elsewhere."""

import json

import onnx
import pytest

import dpvae_cli as dpvae
from tests.cli.test_commands import ok
from tests.explorer import pages
from tests.quick import quick  # noqa: F401
from tests.small import SMALL


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Return the folder of a run of moons with a small prior that was fitted afterwards."""
    folder = tmp_path_factory.mktemp("flow_matching")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ok("train", "vae_moons", *SMALL, "prior=standard_normal", "--run-dir", "run")
        prior = "{kind: flow_matching, hidden: 8, blocks: 1, steps: 4}"
        ok("fit-prior", "run", "--prior", prior, "fitting.iterations=20", "--out", "fitted")
    return folder / "fitted"


def test_it_is_diagnosed(fitted):
    ok("diagnose", str(fitted), "--quick")
    assert json.loads((fitted / "diagnosis.json").read_text())["prior"] == "flow_matching"


def test_it_is_exported(fitted, tmp_path):
    """The file is compared with the model before it is written."""
    path = tmp_path / "sampler.onnx"
    done = ok("export", str(fitted), "--to", str(path))
    assert "sampler.onnx: the largest difference from the model is" in done.stderr
    assert "Scan" in {node.op_type for node in onnx.load(path).graph.node}
    assert not [each for each in (b".py", b"pkg.torch") if each in path.read_bytes()]
    dpvae.export(fitted, tmp_path / "sampler.pt2")
    content = (tmp_path / "sampler.pt2").read_bytes()
    assert b"dpvae_cli/" not in content, "it names source files of this machine"


def test_it_is_explored(fitted):
    ok("explore", str(fitted))
    [run] = pages.content((fitted / "explore.html").read_text(encoding="utf-8"))["runs"]
    assert run["hasGeneration"]
    assert set(run["graphs"]) == {"decoder", "prior", "inverse"}

"""Runs, their pages, and a browser."""

import hashlib
import shutil

import pytest

from dpvae_cli.explorer import content, graphs
from tests.cli.test_commands import ok
from tests.quick import quick  # noqa: F401
from tests.small import SMALL

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
OPTIONS = ("--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND")


@pytest.fixture(scope="session", autouse=True)
def exported_once():
    """Keep the graphs of a model that was exported once: that takes seconds."""
    known = {}

    def pack_graphs(model):
        digest = hashlib.sha256()
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(name.encode() + tensor.numpy().tobytes())
        key = digest.hexdigest()
        if key not in known:
            known[key] = graphs.pack_graphs(model)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(content, "pack_graphs", pack_graphs)
        yield


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Return a folder with runs of moons by three priors and one of arrays with L = 4."""
    folder = tmp_path_factory.mktemp("explore")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for prior in ("decoupled", "standard_normal", "mixture"):
            fields = ("iterations", "validate_every", "checkpoint_every")
            more = ["data.train=600", "architecture.hidden=[32]"]
            more += [f"training.{field}=150" for field in fields]
            ok("train", "beta_h_moons", *SMALL, *more, f"prior={prior}", "--run-dir", prior)
        deep = ["architecture.latent_dim=4"]
        ok("train", "beta_h_moons", *SMALL, *deep, "--run-dir", "deep")
    return folder


@pytest.fixture(scope="session")
def page(runs):
    """Return the path of the page of the decoupled run, written by the command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(runs)
        ok("explore", "decoupled")
    return runs / "decoupled" / "explore.html"


@pytest.fixture(scope="session")
def browser():
    """Return a headless Chromium."""
    if BROWSER is None:
        pytest.skip("no chromium to open the page in")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=BROWSER, args=[*OPTIONS])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser):
    """Return a function that opens a page; no test may leave an error or a request behind."""
    found, tabs = [], []

    def open_page(path, *, width=1280, fragment=""):
        tab = browser.new_page(viewport={"width": width, "height": 900})
        tabs.append(tab)
        tab.on("console", lambda each: each.type == "error" and found.append(each.text))
        tab.on("pageerror", lambda error: found.append(str(error)))
        tab.on(
            "request",
            lambda each: each.url.startswith(("data:", "file:", "blob:")) or found.append(each.url),
        )
        tab.goto(path.as_uri() + fragment)
        tab.wait_for_selector("html[data-ready]", timeout=60_000)
        return tab

    yield open_page
    for tab in tabs:
        tab.close()
    assert found == []

"""The page in a real browser, headless: no console error, every picture shown, nothing too wide.

Skips where there is no Chromium. Nothing is fetched.
"""

import json
import re
import shutil
import subprocess

import pytest

import dpvae_cli as dpvae
from dpvae_cli.diagnosis.page import About, write_diagnosis
from dpvae_cli.priors import StandardNormalPrior
from dpvae_cli.studies.records import ReportInputs, discover
from dpvae_cli.studies.report import write_report
from tests.evaluation.planted import normal, planted
from tests.studies.runs import paint, pairs

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium to open the report in")

PROBE = """<script>
  addEventListener("load", () => {
    const page = document.documentElement;
    document.body.textContent = "PROBE" + JSON.stringify({
      widths: [...document.images].map(image => image.naturalWidth),
      wide: page.scrollWidth, window: page.clientWidth,
      background: getComputedStyle(document.body).backgroundColor,
    }) + "END";
  });
</script>"""


def opened(path, profile, *options):
    """Return what the browser writes when it opens a file."""
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--enable-logging=stderr",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={profile}",
            *options,
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, re.findall(r":CONSOLE.*", done.stderr)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    place = tmp_path_factory.mktemp("browser")
    pictures = ("samples.png", "traversals/z0.png", "samples/low_posterior.png")
    values = {seed: (2.0 + seed, 1.0 + seed / 2) for seed in range(3)}
    pairs(place / "runs", values, pictures=pictures)
    pairs(place / "runs", values, regularizer="beta_h", pictures=pictures)
    paint(place / "figure3.png", size=(1_500, 400))
    inputs = ReportInputs(
        "A long title " * 5,
        tuple(discover([place / "runs"])),
        question="?",
        figures=(place / "figure3.png",),
    )
    write_report(place, inputs)
    return place / "report.html"


def probed(report, profile, *options):
    """Return what a script finds on the page, which only a copy without its policy lets run."""
    text = re.sub(r"<meta http-equiv=[^>]*>", "", report.read_text(encoding="utf-8"))
    copy = report.with_name("probed.html")
    copy.write_text(text.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    dom, _ = opened(copy, profile, *options)
    return json.loads(re.search(r"PROBE(.*?)END", dom)[1].replace("&amp;", "&"))


def test_the_console_stays_empty(report, tmp_path):
    dom, errors = opened(report, tmp_path)
    assert "</footer>" in dom
    assert errors == []


def test_the_policy_lets_no_script_run(report, tmp_path):
    copy = report.with_name("attacked.html")
    script = "<script>document.body.textContent = 'it ran'</script></body>"
    copy.write_text(report.read_text(encoding="utf-8").replace("</body>", script))
    dom, errors = opened(copy, tmp_path)
    assert "it ran</body>" not in dom
    assert "</footer>" in dom
    assert errors, "a console error is seen"


@pytest.fixture(scope="module")
def diagnosis(tmp_path_factory):
    model, data = planted(StandardNormalPrior(2), normal(60), 0.1)
    brief = {"mixture": dpvae.Fitting(iterations=5)}
    budget = dpvae.DiagnosisBudget(samples=100, splits=3, tried=brief)
    found = dpvae.diagnose(model, data, budget=budget)
    about = About("a-run-with-a-long-name-" * 5, "x", "y", 7, "mine", "type this {options}", "note")
    [page, _] = write_diagnosis(found, about, tmp_path_factory.mktemp("browser") / "x.html")
    return page


@pytest.mark.parametrize("width", [500, 1_400])
def test_a_diagnosis_fits_the_window_too(diagnosis, tmp_path, width):
    dom, errors = opened(diagnosis, tmp_path / "plain")
    assert ("</footer>" in dom, errors) == (True, [])
    found = probed(diagnosis, tmp_path, f"--window-size={width},900")
    assert len(found["widths"]) == 2
    assert all(found["widths"])
    assert found["wide"] <= found["window"]


@pytest.mark.parametrize("width", [500, 1_400])
def test_every_picture_is_shown_and_nothing_is_wider_than_the_window(report, tmp_path, width):
    found = probed(report, tmp_path, f"--window-size={width},900")
    of_a_recipe = 2 * 2 + 2 + 1  # two kinds of samples and a walk by two priors, training
    assert len(found["widths"]) == 1 + 1 + 2 * of_a_recipe
    assert all(found["widths"])
    assert found["wide"] <= found["window"]


def test_dark_is_dark_and_light_is_light(report, tmp_path):
    shades = [
        probed(report, tmp_path, f"--blink-settings=preferredColorScheme={scheme}")["background"]
        for scheme in (0, 1)
    ]
    dark, light = (sum(map(int, re.findall(r"\d+", shade)[:3])) / 3 for shade in shades)
    assert dark < 60
    assert light > 200

"""Names with markup, script or formulas, from files to the finished report: shown as text."""

import base64
import io
import json
import os
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import dpvae_cli as dpvae
from dpvae_cli.cli import console, progress
from dpvae_cli.cli.app import app
from dpvae_cli.cli.errors import print_error
from dpvae_cli.diagnosis.page import About, diagnosis_page
from dpvae_cli.diagnosis.record import LowPosterior
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.progress import ProgressEvent
from dpvae_cli.foundation.results import Result
from dpvae_cli.pages.pictures import Picture
from dpvae_cli.priors import StandardNormalPrior
from dpvae_cli.studies import published
from tests.evaluation.planted import normal, planted
from tests.small import SMALL
from tests.studies.runs import leak, paint, pairs
from tests.studies.tiny import written

ADDRESS = published.read_published("table1").source["address"]
VALUES = {0: (2.0, 1.0), 1: (2.2, 1.1), 2: (2.1, 1.2)}
NAMES = (
    "<script>alert(1)<!--",
    "</title></style></pre><img src=x onerror=alert(1)>".replace("/", "\N{DIVISION SLASH}"),
    "\"' onmouseover='alert(1)' x=\"",
    "--><iframe srcdoc=x>]]>",
    "{{ 7 * 7 }}{% raw %}${7*7}",
    "&lt;b&gt;&#60;i",
    "$\\frac{",
    "\u202egnp.exe",
)
"""What a file system lets a name hold."""
TEXTS = (
    *NAMES,
    "</script></style></title></pre></textarea><script src=//x></script>",
    "\x1b[31mred",
)


class Page(HTMLParser):
    """Collects the tags and attributes of a page, its text, and whether tags are balanced."""

    VOID = ("meta", "link", "img", "br", "hr", "line", "circle", "input")

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, "a name closed a tag of the page"

    def handle_data(self, data):
        self.text.append(data)

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")


def judged(path):
    """Assert that a report holds no tag and no attribute but its own; return its text."""
    found = Page(path.read_text(encoding="utf-8"))
    assert not found.open
    names = {tag for tag, _ in found.tags}
    assert not names & {"script", "iframe", "object", "embed", "form", "base", "textarea", "input"}
    attributes = [(tag, key, value) for tag, of in found.tags for key, value in of.items()]
    assert not [each for each in attributes if each[1].startswith("on") or each[1] == "srcdoc"]
    sources = [value for _, key, value in attributes if key == "src"]
    assert all(value.startswith("data:image/") for value in sources)
    links = [value for _, key, value in attributes if key == "href"]
    assert all(value == "data:," or value.startswith(("#", ADDRESS)) for value in links)
    assert "49" not in {word for text in found.text for word in text.split()}, "a template ran"
    return " ".join(" ".join(found.text).split())


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def attack(text):
    """Make a study folder whose every text is this one, and report on it."""
    study = Path("studies") / "mine"
    pairs(study, VALUES)
    said = {"title": text, "question": text, "notes": [text], "metrics": ["skl"]}
    (study / "study.yaml").write_text(yaml.safe_dump(said), encoding="utf-8")
    paint(study / "figures" / "figure1.png")
    (study / "figures" / "figure1.txt").write_text(text, encoding="utf-8")
    for run in study.glob("*/metrics.json"):
        found = json.loads(run.read_text(encoding="utf-8")) | {"recipe": text}
        found["results"].append(found["results"][0] | {"metric": text, "unit": text, "split": text})
        run.write_text(json.dumps(found), encoding="utf-8")
        run.with_name("environment.json").write_text(json.dumps({"dpvae": text, "device": text}))
    return invoke("report", study)


@pytest.mark.parametrize("text", TEXTS)
def test_what_files_say_is_text_on_the_page(text):
    done = attack(text)
    assert done.exit_code == 0, (done.output, done.exception)
    said = judged(Path("studies/mine/report.html"))
    visible = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    assert said.count(visible) >= 4, "title, question, note and table at the least"
    assert "\x1b" not in said


@pytest.mark.parametrize("name", NAMES)
def test_what_files_are_called_is_text_on_the_page(name):
    pairs(Path("runs") / name, VALUES)
    for run in Path("runs", name).iterdir():
        paint(run / "figures" / f"{name}.png")
        run.rename(run.with_name(f"{name} {run.name}"))
    done = invoke("report", Path("runs") / name)
    assert done.exit_code == 0, (done.output, done.exception)
    judged(Path("report/report.html"))


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_is_called_so_is_text_in_its_diagnosis(name):
    run = Path("runs") / name
    trained = invoke("train", "vae_moons", *SMALL, "training.iterations=1", "--run-dir", run)
    assert trained.exit_code == 0, (trained.output, trained.exception)
    done = invoke("diagnose", run, "--quick")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "\u202e" not in done.stdout.partition("runs/")[0]
    assert judged(run / "diagnosis.html")


def test_words_in_a_diagnosis_are_text_on_its_page(monkeypatch):
    """Names of a run, a recipe and a metric, reasons and notes: whatever a file may say."""
    model, data = planted(StandardNormalPrior(2), normal(30), 0.1)
    small = dpvae.DiagnosisBudget(samples=50, splits=2, tried={})
    plain = dpvae.diagnose(model, data, budget=small)
    drawn = "dpvae_cli.diagnosis.page._pictures"
    for text in TEXTS:
        picture = Picture("data:image/png;base64,", 1, 1, text, text)
        monkeypatch.setattr(drawn, lambda found, picture=picture: [picture])
        about = About(text, text, text, 1, text, f"{text} {{options}}".replace("{{", ""), text)
        result = Result(text, 1.0, None, text, 1, 0, None, details={"null": {"value": text}})
        for low in (LowPosterior(result, result), LowPosterior(reason=text, hint=text)):
            found = replace(plain, low_posterior=low, notes=(text,), prior=text)
            Path("diagnosis.html").write_text(diagnosis_page(found, about), encoding="utf-8")
            judged(Path("diagnosis.html"))


def test_a_recipe_and_a_study_called_so_go_all_the_way():
    """The name of a file is the name of the recipe: of run folders, labels in figures, pages."""
    name = f"{NAMES[0]} {NAMES[4]} {NAMES[6]}"
    recipe = Path(f"{name}.yaml")
    shown = invoke("recipes", "show", "vae_moons", *SMALL)
    recipe.write_text(shown.stdout, encoding="utf-8")
    study = written(Path(), recipes=[str(recipe)], overrides={}, metrics=["skl", "leak"])
    study.rename(f"study {name}.yaml")
    figures = [{"kind": kind} for kind in ("moons", "leakage", "training")]
    said = yaml.safe_load(Path(f"study {name}.yaml").read_text()) | {"figures": figures}
    Path(f"study {name}.yaml").write_text(yaml.safe_dump(said), encoding="utf-8")
    done = invoke("reproduce", f"study {name}.yaml", "--jobs", "1", "--quiet")
    assert done.exit_code == 0, (done.output, done.exception)
    assert name in judged(Path("studies") / f"study {name}" / "report.html")


OBEYED = "\x1b[31m\x00\x9b31m\u202e\u2066"
"""A colour twice, an end of text, and marks that turn text round."""


def written_study():
    """Write a study folder with measured runs and return it."""
    study = Path("studies") / "mine"
    pairs(study, VALUES)
    (study / "study.yaml").write_text("title: mine\nmetrics: [skl, leak]\n", encoding="utf-8")
    return study


def test_no_control_character_of_a_study_reaches_its_report():
    study = written_study()
    for run in study.glob("*/metrics.json"):
        found = json.loads(run.read_text(encoding="utf-8"))
        for result in found["results"]:
            result["details"] = {"note": f"told{OBEYED}so", "estimator": OBEYED}
        run.write_text(json.dumps(found), encoding="utf-8")
    done = invoke("report", study)
    assert done.exit_code == 0, (done.output, done.exception)
    for suffix in ("html", "md", "tex", "csv", "json"):
        text = (study / f"report.{suffix}").read_text(encoding="utf-8")
        assert not set(OBEYED.replace("31m", "").replace("[", "")) & set(text), suffix


@pytest.mark.parametrize("is_terminal", [True, False])
def test_no_control_character_from_outside_reaches_a_terminal(is_terminal, monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(console.sys, "stdout", text)
    monkeypatch.setattr(console.sys, "stderr", text)
    monkeypatch.setattr(text, "isatty", lambda: is_terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("dpvae_cli.runs.run_folder.update_latest_link", lambda _: None)
    console.result(f"result {OBEYED}")
    console.note(f"note {OBEYED}")
    print_error(UsageError(f"error {OBEYED}", hint=f"hint {OBEYED}"))
    console.table(f"title {OBEYED}", [f"column {OBEYED}"], [[f"cell {OBEYED}"]])
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(progress, "LINE_EVERY", -1.0)
    with progress.ProgressDisplay() as display:
        display(ProgressEvent(f"decoding {OBEYED}", 1, 2))
    progress.TrainingProgress().on_train_start(Path(f"run {OBEYED}"), iteration=0, iterations=1)
    ours = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", text.getvalue())  # the bar moves the cursor
    assert not set(OBEYED) - set("31m[") & set(ours)
    said = " ".join(ours.split())  # a title is as wide as its table
    for word in ("result", "note", "error", "hint", "title", "column", "cell", "decoding", "run"):
        assert rf"{word} \x1b[31m\x00\x9b31m\u202e\u2066" in said, word
    assert "\x1b[31m" not in text.getvalue()


def test_a_path_that_is_not_utf8_is_printed_as_it_is(monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(console.sys, "stdout", text)
    console.result(os.fsdecode(b"runs/caf\xe9"))
    assert os.fsencode(text.getvalue()) == b"runs/caf\xe9\n"


def test_a_report_reads_no_file_outside_the_study():
    secret = "password: 1234"
    Path("secret.txt").write_text(secret)
    Path("elsewhere").mkdir()
    Path("elsewhere/environment.json").write_text(json.dumps({"dpvae": secret}))
    paint(Path("elsewhere/secret.png"), (7, 9))
    study = written_study()
    paint(study / "figures" / "f.png")
    (study / "figures" / "f.txt").symlink_to(Path("secret.txt").resolve())
    (study / "figures" / "g.png").symlink_to(Path("elsewhere/secret.png").resolve())
    first, second, *_ = sorted(run.parent for run in study.glob("*/metrics.json"))
    (first / "environment.json").unlink()
    (first / "environment.json").symlink_to(Path("elsewhere/environment.json").resolve())
    shutil.rmtree(second / "figures", ignore_errors=True)
    (second / "figures").symlink_to(Path("elsewhere").resolve())
    done = invoke("report", study)
    assert done.exit_code == 0, (done.output, done.exception)
    secret_picture = base64.b64encode(Path("elsewhere/secret.png").read_bytes()).decode()
    for suffix in ("html", "md", "tex", "csv", "json"):
        text = (study / f"report.{suffix}").read_text(encoding="utf-8")
        assert "1234" not in text
        assert secret_picture not in text
    assert "environment.json is a link that leads out" in judged(study / "report.html")


def test_a_run_folder_may_be_a_link(tmp_path):
    """Runs lie on scratch disks; the user named them."""
    pairs(tmp_path / "scratch", VALUES)
    Path("runs").mkdir()
    for run in (tmp_path / "scratch").iterdir():
        Path("runs", run.name).symlink_to(run)
    done = invoke("report", *sorted(Path("runs").iterdir()))
    assert done.exit_code == 0, (done.output, done.exception)
    judged(Path("report/report.html"))


def test_odd_numbers_of_a_stranger_end_in_no_traceback():
    study = written_study()
    odd = [-1.0, int("9" * 400), 1e308, -0.0, "1e999"]
    for run, number in zip(sorted(study.glob("*/metrics.json")), odd, strict=False):
        found = json.loads(run.read_text(encoding="utf-8"))
        found["results"].append(leak())
        found["results"][-1]["details"] |= {
            "standard_errors": [number] * 3,
            "quantile_standard_errors": [number] * 2,
        }
        for result in found["results"]:
            result |= {"standard_error": number, "samples": number, "seed": number}
        run.write_text(json.dumps(found), encoding="utf-8")
    done = invoke("report", study)
    assert done.exit_code == 0, (done.output, done.exception)
    judged(study / "report.html")


def test_a_folder_whose_name_is_not_utf8_is_reported_on():
    pairs(Path(os.fsdecode(b"runs/caf\xe9")), VALUES)
    done = invoke("report", Path(os.fsdecode(b"runs/caf\xe9")))
    assert done.exit_code == 0, (done.output, done.exception)
    assert "caf" in judged(Path("report/report.html"))

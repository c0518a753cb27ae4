"""`dpvae report` through its entry point: studies, runs, mixtures, and what is missing."""

import pytest
import yaml
from typer.testing import CliRunner

from dpvae_cli.cli.app import app
from tests.studies.runs import paint, pairs, write_run

FILES = [f"report.{suffix}" for suffix in ("html", "md", "tex", "csv", "json")]
VALUES = {0: (2.0, 1.0), 1: (2.2, 1.1), 2: (2.1, 1.2)}


def run(*arguments):
    return CliRunner().invoke(app, ["report", *(str(argument) for argument in arguments)])


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def text(path="report/report.html"):
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        return file.read()


def test_runs_go_to_the_folder_report(tmp_path):
    runs = pairs(tmp_path / "runs", VALUES)
    done = run(*runs)
    assert done.exit_code == 0, done.output
    assert done.stdout.split() == [f"report/{name}" for name in FILES]
    assert done.stderr == ""
    assert "<h1>Runs compared</h1>" in text()


def test_a_study_says_title_question_and_notes_itself(tmp_path):
    study = tmp_path / "studies" / "mine"
    pairs(study, VALUES)
    paint(study / "figures" / "figure3.png")
    said = {"title": "Mine & yours", "question": "Is it?", "notes": ["Short."], "metrics": ["skl"]}
    (study / "study.yaml").write_text(yaml.safe_dump({**said, "published": None}))
    done = run(study)
    assert done.stdout.split() == [str(study / name) for name in FILES]
    page = text(study / "report.html")
    for words in ("<h1>Mine &amp; yours</h1>", "Is it?", "<li>Short.</li>", 'id="figures"'):
        assert words in page
    assert "leakage" not in text(study / "report.csv")


def test_a_mixture_with_a_title_and_a_folder(tmp_path):
    study = tmp_path / "study"
    pairs(study, VALUES)
    (study / "study.yaml").write_text("title: not this\n")
    mine = write_run(tmp_path, regularizer="info", reached=5)
    done = run(study, mine, "--out", "both", "--title", "Both of them")
    assert done.exit_code == 0, done.output
    page = text("both/report.html")
    assert "<h1>Both of them</h1>" in page
    assert "1 of 7 runs is in no table" in page
    assert not (study / "report.html").exists()


@pytest.mark.parametrize("damage", ["{", "- 1", "title: [1]\nmetrics: 7\nnotes: {a: b}\n", "\x00"])
def test_a_damaged_study_file_still_gives_a_report(tmp_path, damage):
    pairs(tmp_path / "study", VALUES)
    (tmp_path / "study" / "study.yaml").write_text(damage)
    assert run(tmp_path / "study").exit_code == 0
    assert "<h1>study</h1>" in text(tmp_path / "study" / "report.html")


def test_what_is_missing_names_the_command(tmp_path):
    nowhere = run("nowhere")
    assert (nowhere.exit_code, "there is nothing at nowhere" in nowhere.stderr) == (3, True)
    (tmp_path / "empty").mkdir()
    empty = run("empty")
    assert (empty.exit_code, "dpvae train" in empty.stderr) == (3, True)
    write_run(tmp_path / "runs")
    unmeasured = run("runs")
    assert unmeasured.exit_code == 2
    assert "Measure first: dpvae eval runs/vae_moons-decoupled-seed0" in unmeasured.stderr
    assert not (tmp_path / "report").exists()


def test_out_is_a_folder(tmp_path):
    runs = pairs(tmp_path / "runs", VALUES)
    done = run(*runs, "--out", "mine.html")
    assert done.exit_code == 2
    assert "--out mine" in done.stderr

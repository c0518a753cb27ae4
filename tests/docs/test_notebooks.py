"""The notebooks run, and in a notebook progress, results and errors show themselves."""

import re
from html import unescape

import matplotlib as mpl
import nbformat
import pytest
from nbclient import NotebookClient

import dpvae_cli as dpvae
from dpvae_cli.foundation import notebook, progress
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.progress import ProgressEvent
from dpvae_cli.foundation.results import Result, ResultList
from tests.docs.pages import ROOT
from tests.small import small_recipe

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.md"))
CELL = re.compile(r"^```\{code-cell\} python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LENGTH = re.compile(r"^(ITERATIONS|STEPS) = [\d_]+$", re.MULTILINE)


def cells(page):
    """Return the code of a notebook's cells, and whether each is to fail."""
    for code in CELL.findall(page.read_text(encoding="utf-8")):
        fails = code.startswith(":tags: [raises-exception]\n")
        yield code.partition("\n")[2] if fails else code, fails


@pytest.mark.parametrize("page", NOTEBOOKS, ids=lambda page: page.stem)
def test_a_notebook_runs(page, tmp_path, monkeypatch):
    """With few steps; `make docs` runs it as it stands."""
    monkeypatch.chdir(tmp_path)
    mpl.use("agg")
    namespace = {"__name__": "__main__"}
    for code, fails in cells(page):
        run = compile(LENGTH.sub(r"\1 = 60", code), str(page), "exec")
        if fails:
            with pytest.raises(dpvae.foundation.errors.DpvaeError):
                exec(run, namespace)
        else:
            exec(run, namespace)


def test_there_are_notebooks():
    assert [page.stem for page in NOTEBOOKS] == ["explore_model", "samples_badly", "two_moons"]
    assert all(len(list(cells(page))) >= 4 for page in NOTEBOOKS)


KERNEL = """
import dpvae_cli as dpvae
from dpvae_cli.foundation.progress import report_progress
from dpvae_cli.foundation import notebook

notebook.DELAY = notebook.REFRESH = 0.0
for done in range(1, 4):
    report_progress("training", done, 3, "loss 1 < 2")
"""


def test_a_kernel_shows_progress_and_short_errors(tmp_path):
    made = nbformat.v4.new_notebook()
    made.cells = [
        nbformat.v4.new_code_cell(code)
        for code in (KERNEL, 'dpvae.load_recipe("beta_h_moons", ["prior=decopled"])')
    ]
    NotebookClient(made, allow_errors=True, resources={"metadata": {"path": tmp_path}}).execute()
    shown, failed = (cell.outputs for cell in made.cells)
    assert [output.data["text/html"] for output in shown] == ["<small>training: 3 in 0 s</small>"]
    (error,) = failed
    text = "\n".join(error.traceback)
    assert "did you mean decoupled?" in text
    assert "Traceback" not in text
    assert len(text.splitlines()) < 8


def test_progress_is_a_bar_and_then_a_time():
    event = ProgressEvent("fit <x>", 5, 20, "loss 1")
    bar = notebook.progress_html(event, 1.0)
    assert bar.startswith('<progress value="5" max="20">')
    text = unescape(re.sub(r"<[^>]*>", "", bar))
    assert " ".join(text.split()) == "fit <x>: 5 of 20 loss 1"
    assert "value" not in notebook.progress_html(ProgressEvent("scan", 5), 1.0)
    assert "20 in 4 s" in notebook.progress_html(ProgressEvent("fit", 20, 20), 4.2)


def test_outside_of_notebooks_nothing_is_shown():
    assert not notebook.is_notebook()
    assert progress.default_handler() is progress.ignore_progress


def test_results_are_a_table():
    one = Result("skl", 0.5, 0.01, "nats <b>", 500, 0, "train")
    table = ResultList([one])._repr_html_()
    assert table.count("<tr>") == 2
    assert "<td>0.500 ± 0.010</td>" in table
    assert "nats &lt;b&gt;" in table
    assert one._repr_html_() == table


def test_a_diagnosis_shows_its_answer_table_and_pictures():
    recipe = small_recipe("vae", "prior=standard_normal")
    budget = dpvae.DiagnosisBudget(splits=2, samples=60, tried={})
    found = dpvae.diagnose(dpvae.build(recipe), recipe.data.load(), budget=budget)
    html = found._repr_html_()
    assert "off above" in html
    assert html.count('<img src="data:image/png;base64,') >= 1
    assert isinstance(
        dpvae.evaluate(
            dpvae.build(recipe), recipe.data.load(), ["active_units"], evaluation=recipe.evaluation
        ),
        ResultList,
    )


def test_an_error_is_its_message_and_hint():
    with pytest.raises(UsageError) as caught:
        dpvae.load_recipe("beta_h_moons", ["prior=decopled"])
    lines = caught.value._render_traceback_()
    assert lines[0].startswith(f"{type(caught.value).__name__}: ")
    assert str(caught.value) in lines[0]

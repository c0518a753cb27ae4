"""The how-to pages: their prior, regularizer, data set and metric join a copy of the package."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dpvae_cli
from dpvae_cli.plotting.style import prior_colours
from tests.docs.pages import blocks

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["add_a_prior", "add_a_regularizer", "add_a_dataset", "add_a_metric"]
MOST_LINES = 46
"""Of an example, with its imports and docstrings."""
MOST_FILES = 7
"""Class, union, test case, tests of its own and their tier, and two recipes; docs come beside."""

KINDS = [
    ("priors", "laplace", "add_a_prior", "Laplace", "_Trained = .*", r"\g<0> | Laplace"),
    (
        "regularizers",
        "shrink",
        "add_a_regularizer",
        "Shrink",
        r"AnyRegularizer = Annotated\[\s*",
        r"\g<0>Shrink | ",
    ),
    ("data", "ring", "add_a_dataset", "Ring", r"AnyData = Annotated\[\s*", r"\g<0>Ring | "),
]
"""Package, kind, page, class, and how it joins the package's union (pattern, replacement)."""
RECIPE = """
data: {kind: ring, points: 60}
architecture: {kind: mlp, hidden: [8]}
likelihood: {kind: gaussian, scale: 0.2}
prior: laplace
regularizer: shrink
training: {iterations: 4, batch_size: 16}
evaluation: {samples: 20}
"""
PROGRAM = """
import json
import sys
import dpvae_cli as dpvae
from dpvae_cli.foundation.kinds import kinds_in_source
from dpvae_cli.plotting import style

recipe = dpvae.load_recipe("toy.yaml")
model = dpvae.train(recipe, "run")
assert isinstance(model.prior.spec, dpvae.Laplace), model.prior
assert {"Laplace"} <= set(dpvae.__all__) & set(dir(dpvae))
assert kinds_in_source("priors")["laplace"] == "Laplace"
colours = style.prior_colours()
before = json.loads(sys.argv[1])
# priors that are only fitted come after those that are trained, too
assert {kind for kind in before if colours[kind] != before[kind]} <= {"flow_matching"}
assert list(colours.values()).count(colours["laplace"]) == 1
assert model.sample(5).shape == (5, 2)
data = recipe.data.load()
skl, density = dpvae.evaluate(
    model, data, ["skl", "code_density"], evaluation=recipe.evaluation
)
assert skl.value is not None
z = model.encode(data.test.examples()).mean
assert abs(density.value - float(model.prior.log_prob(z).mean())) < 5
assert density.samples == 60 and density.unit == "nats per example"
fitted = dpvae.fit_prior(
    *[dpvae.load("run").encode(recipe.data.load().train.examples()).mean] * 2,
    "laplace",
    fitting=dpvae.Fitting(iterations=2, batch_size=16),
)
assert type(fitted.prior.prior) is type(model.prior)
"""


def examples(page: str) -> list[str]:
    """Return the `py` blocks of a how-to page."""
    found = blocks(ROOT / "docs" / f"{page}.md")
    return [block.text for block in found if block.language == "py"]


def add(root: Path, package: str, kind: str, page: str, name: str, *union: str) -> None:
    """Write a kind's file and join it to its package's union, as its page says."""
    folder = root / "dpvae_cli" / package
    (source,) = examples(page)
    (folder / f"{kind}.py").write_text(source, encoding="utf-8")
    init = folder / "__init__.py"
    text = init.read_text(encoding="utf-8")
    joined, count = re.subn(*union, text, flags=re.MULTILINE)
    assert count == 1, text
    line = f"from dpvae_cli.{package}.{kind} import {name}\n"
    joined = joined.replace("\nfrom dpvae_cli.", f"\n{line}from dpvae_cli.", 1)
    joined = joined.replace("__all__ = [", f'__all__ = [\n    "{name}",', 1)
    init.write_text(joined, encoding="utf-8")


def add_metric(root: Path) -> None:
    """Write the metric's file and its entry."""
    source, entry = examples("add_a_metric")
    folder = root / "dpvae_cli" / "evaluation"
    (folder / "code_density.py").write_text(source, encoding="utf-8")
    listed = folder / "metrics.py"
    text = listed.read_text(encoding="utf-8")
    assert text.count("\n_ALL = (\n") == 1
    listed.write_text(
        text.replace("\n_ALL = (\n", f"\n_ALL = (\n{entry.strip()},\n"), encoding="utf-8"
    )


@pytest.mark.parametrize("page", PAGES)
def test_examples_are_as_tidy_as_the_package(page):
    source = examples(page)[0]
    assert len(source.splitlines()) <= MOST_LINES
    for arguments in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", "dpvae_cli/x.py", "-"],
            input=source,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


def test_new_kinds_train_sample_and_evaluate(tmp_path):
    shutil.copytree(
        Path(dpvae_cli.__file__).parent,
        tmp_path / "dpvae_cli",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    for entry in KINDS:
        add(tmp_path, *entry)
    add_metric(tmp_path)
    (tmp_path / "toy.yaml").write_text(RECIPE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(prior_colours())],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(tmp_path), "DPVAE_CACHE": str(tmp_path / "cache"), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["resampled"])
def test_a_kind_of_prior_stands_in_few_files(kind):
    word = re.compile(rf"\b({kind}|{kind.title()}|{kind.title()}Prior)\b")
    files = [
        path.relative_to(ROOT).as_posix()
        for folder in ("dpvae_cli", "tests", "recipes", "benchmarks", "examples")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".yaml") and word.search(path.read_text(encoding="utf-8"))
    ]
    files.remove("tests/test_extension.py")
    assert len(files) <= MOST_FILES, files

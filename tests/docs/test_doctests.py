"""The examples in docstrings run.

They are found in the source and not in the imported module: the shape checks of the test suite wrap
functions, and doctest's own finder takes wrapped functions for somebody else's.
"""

import ast
import doctest
import importlib

import pytest

import dpvae_cli as dpvae
from tests.docs.pages import ROOT

MODULES = [
    path
    for path in sorted((ROOT / "dpvae_cli").rglob("*.py"))
    if ">>>" in path.read_text(encoding="utf-8")
]
WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_examples_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    source = path.read_text(encoding="utf-8")
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, WITH_DOCSTRING)]
    texts = [text for node in nodes if (text := ast.get_docstring(node)) and ">>>" in text]
    runner, count = doctest.DocTestRunner(verbose=False), 0
    for text in texts:
        found = doctest.DocTestParser().get_doctest(text, vars(module).copy(), path.name, None, 0)
        count += len(found.examples)
        runner.run(found)
    assert runner.summarize().failed == 0
    assert count == source.count(">>> "), "an example stands outside the docstrings"


@pytest.mark.parametrize("name", sorted({*dpvae.__all__} - {"__version__"}))
def test_every_public_name_has_an_example(name):
    assert "Example:\n" in (getattr(dpvae, name).__doc__ or "")

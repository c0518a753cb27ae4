"""How much code a reader meets: limits that may fall but not grow.

Counted are the functions of the package that run, and the files they are in; lambdas and
comprehensions belong to the function around them.
"""

import ast
import inspect
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import torch

import dpvae_cli
from dpvae_cli.training.train import Trainer
from tests.small import small_recipe

ROOT = Path(dpvae_cli.__file__).parent
STEP_FUNCTIONS, STEP_FILES = 37, 14
RUN_FUNCTIONS, RUN_FILES = 311, 45
LOOP_LINES = 320
EXECUTOR_LINES = 522
LINES = 33_600
ONCE_USED_HELPERS = 152
RUN = """
import json, sys
from tests.test_sizes import Tracer
from dpvae_cli.cli.app import app
import dpvae_cli.training.train, matplotlib.pyplot
with Tracer() as tracer:
    try:
        app(sys.argv[1:], prog_name="dpvae")
    except SystemExit as end:
        assert not end.code
print(json.dumps(sorted(tracer.functions)))
"""


class Tracer:
    """Collects (file, line, name) of the package's functions that are entered inside the block."""

    def __init__(self):
        self.functions = set()

    def _enter(self, frame, event, _):
        code = frame.f_code
        is_named = not code.co_name.startswith("<") and code.co_flags & inspect.CO_OPTIMIZED
        if event == "call" and is_named and code.co_filename.startswith(str(ROOT)):
            self.functions.add((code.co_filename, code.co_firstlineno, code.co_qualname))

    def __enter__(self):
        sys.setprofile(self._enter)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)


def assert_within(functions, most, most_files):
    """Check the counts, and name what was entered when they are exceeded."""
    files = {file for file, *_ in functions}
    listing = "\n".join(f"{file}: {name}" for file, _, name in sorted(functions))
    assert len(functions) <= most, listing
    assert len(files) <= most_files, listing


def test_an_optimizer_step():
    recipe = small_recipe("vae")
    trainer = Trainer(recipe, recipe.data.load(), torch.device("cpu"))
    trainer.step()  # opens the epoch
    with Tracer() as tracer:
        trainer.step()
    assert_within(tracer.functions, STEP_FUNCTIONS, STEP_FILES)


def test_a_training_run(tmp_path):
    run = ["train", "vae_moons", "training.iterations=2", "--run-dir", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *run], capture_output=True, text=True, check=True
    )
    functions = [tuple(function) for function in json.loads(done.stdout.splitlines()[-1])]
    assert_within(functions, RUN_FUNCTIONS, RUN_FILES)


def test_the_training_file_fits_two_screens():
    lines = (ROOT / "training" / "train.py").read_text(encoding="utf-8").count("\n")
    assert lines <= LOOP_LINES


def test_the_executors():
    files = (ROOT / "studies" / "executors").glob("*.py")
    assert sum(path.read_text(encoding="utf-8").count("\n") for path in files) <= EXECUTOR_LINES


def test_the_package():
    """Who adds a feature removes something else, or raises the limit and says why."""
    lines = sum(path.read_text(encoding="utf-8").count("\n") for path in ROOT.rglob("*.py"))
    assert lines <= LINES


def test_private_functions_that_are_used_once():
    """Such a helper names a concept of the field or hides a mechanism; others are inline."""
    nodes = [
        node
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    ]
    uses = Counter(
        getattr(node, "id", None) or getattr(node, "attr", None)
        for node in nodes
        if isinstance(node, (ast.Name, ast.Attribute))
    )
    helpers = [node.name for node in nodes if isinstance(node, ast.FunctionDef)]
    private = [name for name in helpers if name.startswith("_") and not name.startswith("__")]
    once = sorted(name for name in private if uses[name] == 1)
    assert len(once) <= ONCE_USED_HELPERS, once

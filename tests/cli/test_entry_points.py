"""The command line as processes: entry points, speed of help, completion."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import dpvae_cli
from dpvae_cli.cli import completion
from dpvae_cli.cli.app import SECTIONS, app
from dpvae_cli.recipe.validation import kinds

COMMANDS = [
    [],
    ["train"],
    ["sample"],
    ["reconstruct"],
    ["encode"],
    ["eval"],
    ["diagnose"],
    ["explore"],
    ["export"],
    ["fit-prior"],
    ["traverse"],
    ["reproduce"],
    ["report"],
    ["doctor"],
    ["plot"],
    ["plot", "moons"],
    ["plot", "regularizers"],
    ["plot", "leakage"],
    ["plot", "samples"],
    ["plot", "training"],
    ["recipes"],
    ["recipes", "ls"],
    ["recipes", "show"],
    ["recipes", "cp"],
    ["recipes", "validate"],
    ["recipes", "schema"],
    ["models"],
    ["models", "ls"],
]
PROBE = """
import json, sys
from typer.testing import CliRunner
from dpvae_cli.cli.app import app
for command in json.load(sys.stdin):
    done = CliRunner().invoke(app, [*command, "--help"])
    heavy = {"torch", "matplotlib", "scipy", "sklearn", "numpy"} & set(sys.modules)
    if heavy or done.exit_code or "Usage:" not in done.output:
        sys.exit(f"{command}: imported {heavy}, {done.output}")
    if "dpvae " not in done.output.split("Examples:")[1]:
        sys.exit(f"{command} has no example: {done.output}")
"""


def run(*command, stdin="", **environment):
    return subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


def test_help_imports_nothing_heavy_and_ends_with_examples():
    done = run(sys.executable, "-c", PROBE, stdin=json.dumps(COMMANDS))
    assert done.returncode == 0, done.stderr


def test_version_by_module_and_by_command():
    by_module = run(sys.executable, "-m", "dpvae_cli", "--version")
    command = Path(sys.executable).with_name("dpvae")
    by_command = run(str(command), "--version")
    assert by_module.stdout == by_command.stdout
    assert by_module.stdout.startswith("dpvae 0.")


def test_completion_script(monkeypatch):
    # else typer asks which shell is above this process, and there may be none
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    done = run(sys.executable, "-m", "dpvae_cli", "--show-completion", "bash")
    assert done.returncode == 0
    assert "dpvae" in done.stdout


def test_importing_the_package_imports_no_torch():
    code = "import sys, dpvae_cli; assert 'torch' not in sys.modules; print(dpvae_cli.__version__)"
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr


def test_an_unknown_option_is_no_traceback():
    done = CliRunner().invoke(app, ["train", "--quick"])
    assert done.exit_code == 2
    assert "No such option" in done.stderr


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["--iterations", "5"], "training.iterations=5"),
        (["--beta=8"], "regularizer.beta=8"),
        (["--latent-dim", "4"], "architecture.latent_dim=4"),
        (["--seed"], "seed=..."),
    ],
)
def test_a_key_typed_as_an_option_is_answered_with_the_key(typed, meant):
    done = CliRunner().invoke(app, ["train", "beta_h_moons", *typed])
    assert done.exit_code == 2
    assert f"Recipe keys are set without dashes: {meant}" in done.stderr


def test_the_help_has_every_command_in_a_section():
    done = run(sys.executable, "-m", "dpvae_cli", "--help", COLUMNS="80")
    names = [name for section in SECTIONS.values() for name in section]
    assert sorted(names) == sorted(command[0] for command in COMMANDS[1:] if len(command) == 1)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [words[0] for words in lines if words and words[0] in names] == names
    assert "..." not in done.stdout.split("Train:")[1].split("Examples:")[0], "a summary is cut"
    assert max(map(len, done.stdout.splitlines())) <= 80


def complete(*words):
    done = run(
        *(sys.executable, "-c", "from dpvae_cli.__main__ import main; main()"),
        _DPVAE_COMPLETE="complete_bash",
        COMP_WORDS=" ".join(["dpvae", *words]),
        COMP_CWORD=str(len(words)),
    )
    return done.stdout.split()


def test_names_are_completed():
    assert "beta_h_moons" in complete("train", "beta_h")
    assert complete("recipes", "show", "vae_moo") == ["vae_moons"]
    assert complete("reproduce", "moons_q") == ["moons_quick"]
    assert complete("fit-prior", "--prior", "sp") == ["spline"]
    assert complete("eval", "--metrics", "skl,nl") == ["skl,nll"]


def test_completion_knows_every_prior():
    assert set(completion.complete_prior("")) == set(kinds("fit_prior"))


def test_a_backend_of_matplotlib_from_elsewhere_does_no_harm(tmp_path):
    """Jupyter gives its own to every command that is started from a cell."""
    code = (
        "import sys\n"
        "from dpvae_cli.cli.app import main\n"
        "for words in ('train vae_moons training.iterations=2 data.train=300', 'plot training'):\n"
        "    sys.argv = ['dpvae', *words.split()]\n"
        "    try: main()\n"
        "    except SystemExit as error: assert not error.code\n"
    )
    environment = os.environ | {"MPLBACKEND": "inline"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("training*.png"))


def test_a_terminal_says_that_torch_is_loading_and_clears_it(tmp_path):
    """On a terminal the message comes before the import; nothing is left of it."""
    (tmp_path / "torch.py").write_text("")  # the real one takes seconds
    here = {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(dpvae_cli.__file__).parents[1])])
    }
    ours, theirs = pty.openpty()
    code = (
        "import sys, builtins\n"
        "from dpvae_cli.cli import errors\n"
        "assert 'torch' not in sys.modules\n"
        "errors.load_torch()\n"
        "assert 'torch' in sys.modules\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, stderr=theirs, check=False, env=os.environ | here)
    os.close(theirs)
    assert done.returncode == 0
    loading = f"\r{' ' * 11}\r"
    assert os.read(ours, 1_000).decode() == f"Loading ...{loading}"
    os.close(ours)
    assert run(*command[:2], code.replace("assert 'torch' in", "'torch' in"), **here).stderr == ""

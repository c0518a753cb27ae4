"""The command line as processes: entry points, speed of help, completion."""

import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = [
    [],
    ["train"],
    ["sample"],
    ["reconstruct"],
    ["encode"],
    ["eval"],
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
]
PROBE = """
import sys
from typer.testing import CliRunner
from dpvae_cli.cli.app import app
done = CliRunner().invoke(app, [*sys.argv[1:], "--help"])
heavy = {"torch", "matplotlib", "scipy", "sklearn", "numpy"} & set(sys.modules)
print(done.output)
sys.exit(f"imported {heavy}" if heavy else done.exit_code)
"""


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_imports_nothing_heavy_and_ends_with_examples(command):
    done = run(sys.executable, "-c", PROBE, *command)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout
    assert "dpvae " in done.stdout.split("Examples:")[1]


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
    done = run(sys.executable, "-m", "dpvae_cli", "train", "--quick")
    assert done.returncode == 2
    assert "No such option" in done.stderr
    assert "Traceback" not in done.stderr

"""Whatever the locale, the terminal, the path or the clock: the real entry point works."""

import fcntl
import os
import pty
import pwd
import re
import shlex
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dpvae_cli.cli.app import app
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.studies.executors import local
from dpvae_cli.training.train import train
from tests.same import assert_same_run
from tests.small import SMALL, small_recipe

MODULE = (sys.executable, "-m", "dpvae_cli")
COLOUR = re.compile(r"\x1b\[[\d;]*(3[0-7]|9[0-7])m")
CONTROL = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")
TRAIN = ("train", "vae_moons", *SMALL)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(small_recipe(), folder)
    return folder


def run(*arguments, cwd, environment=None, start=MODULE, **options):
    """Run the command as a process without a terminal; bytes come back as they are."""
    return subprocess.run(
        [*start, *arguments],
        capture_output=True,
        check=False,
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | (environment or {}),
        **options,
    )


def on_terminal(*arguments, cwd, columns, environment=None, start=MODULE):
    """Run the command on a terminal of the given width; return exit code and output."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    surroundings = os.environ | {"OMP_NUM_THREADS": "1", "TERM": "xterm"} | (environment or {})
    surroundings.pop("COLUMNS", None)
    process = subprocess.Popen(
        [*start, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd, env=surroundings
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            block = os.read(ours, 65_536)
        except OSError:  # the other end is closed
            break
        if not block:
            break
        shown += block
    os.close(ours)
    return process.wait(timeout=60), shown.decode()


LOCALES = {
    "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "latin-1": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"},
    "strict ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii:strict"},
}
PLACE = "Läufe ± 运行 'a b'"
BACKWARDS = """
import itertools, sys, time
from dpvae_cli.cli.app import app, main
ticks = itertools.count(1e9, -3600)
for name in ("time", "monotonic", "perf_counter"):
    setattr(time, name, lambda: next(ticks))
resume = ["train", "--resume", "--run-dir", sys.argv[-1], "training.iterations=20"]
try:
    main()
except SystemExit as ended:
    sys.exit(ended.code or app(resume))
"""
"""Trains and goes on, with a clock that runs backwards."""
TWICE = """
from dpvae_cli.cli.app import app
app(["train", "--resume", "--run-dir", "run", "training.iterations=25"], standalone_mode=False)
app(["eval", "run", "--metrics", "skl,leak"])
"""


@pytest.mark.parametrize("locale", LOCALES)
def test_a_locale_that_knows_few_letters_is_fine(locale, tmp_path):
    (tmp_path / PLACE).mkdir()
    done = run("recipes", "cp", "vae_moons", PLACE, cwd=tmp_path, environment=LOCALES[locale])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / PLACE / "vae_moons.yaml").is_file()
    assert done.stdout.decode() == f"{PLACE}/vae_moons.yaml\n", "a script can go on with it"


def test_a_path_that_is_no_utf_8_is_fine(tmp_path):
    place = os.fsdecode(b"caf\xe9 run")
    (tmp_path / place).mkdir()
    done = run("recipes", "cp", "vae_moons", place, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == b"caf\xe9 run/vae_moons.yaml"


def test_training_in_a_place_with_spaces_and_letters_of_all_kinds(whole, tmp_path):
    """In an ASCII locale, without a terminal, with a clock that runs backwards."""
    (tmp_path / PLACE).mkdir()
    done = run(
        *(*TRAIN, "training.iterations=10", "--run-dir", f"{PLACE}/run"),
        cwd=tmp_path,
        environment=LOCALES["ascii"],
        start=(sys.executable, "-c", BACKWARDS),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == f"{PLACE}/run\n" * 2
    assert_same_run(whole, tmp_path / PLACE / "run")
    assert not set(b"\x1b\r") & set(done.stdout + done.stderr), "no terminal, no control characters"


def test_times_from_the_future_are_fine(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    for path in (tmp_path / "run").iterdir():
        os.utime(path, (4e9, 4e9))
    train(small_recipe("vae", "training.iterations=25"), tmp_path / "run", mode="resume")
    assert checkpoints.read_checkpoint(tmp_path / "run" / "checkpoint.pt").iteration == 25


def test_no_color_is_no_colour(tmp_path):
    command = ("recipes", "show", "nothing")
    code, shown = on_terminal(*command, cwd=tmp_path, columns=80, environment={"NO_COLOR": "1"})
    assert code == 2
    assert "no packaged recipe" in shown
    assert not COLOUR.search(shown)


def test_forty_columns_are_enough(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    start = (sys.executable, "-c", TWICE)
    code, shown = on_terminal(cwd=tmp_path, columns=40, start=start)
    assert code == 0, shown
    assert "Traceback" not in shown
    assert COLOUR.search(shown), "else NO_COLOR would be no news"
    lines = [CONTROL.sub("", line).rstrip() for line in re.split(r"[\r\n]+", shown)]
    first = next(i for i, line in enumerate(lines) if line.split() == ["metric", "skl"])
    table = lines[first:]
    assert re.match(r"value ± standard error +0\.\d+ ± 0\.\d+$", table[1]), table
    assert all(len(line) <= 40 for line in table), table


def test_help_fits_forty_columns(tmp_path):
    code, shown = on_terminal("train", "--help", cwd=tmp_path, columns=40)
    assert code == 0
    assert "--from-previous" in shown


def test_a_stdout_that_takes_nothing_is_an_error(tmp_path):
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*MODULE, "recipes", "ls"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd=tmp_path,
        )
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_what_the_system_refuses_is_no_traceback(tmp_path, monkeypatch):
    """A folder in the place of a file, and a link to itself, are refused to root as well."""
    monkeypatch.chdir(tmp_path)
    Path("weird.yaml").mkdir()
    Path("loop").symlink_to("loop")
    for arguments in (
        ("train", "weird.yaml"),
        (*TRAIN, "--run-dir", "loop/run"),
        ("eval", "loop"),
        ("recipes", "validate", "loop/x.yaml"),
    ):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code in (2, 4), done.output
        assert isinstance(done.exception, SystemExit)
        assert done.stderr.startswith("Error: ")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied", "x.npy"), "cannot use x.npy: Permission denied"),
        (OSError(5, "Input/output error"), "reading or writing failed: Input/output"),
        (MemoryError("no room"), "memory ran out (no room)"),
        (RuntimeError("CUDA out of memory.\nsee there"), "memory ran out (CUDA out of memory.)"),
    ],
)
def test_what_goes_wrong_anywhere_is_told(error, said, monkeypatch):
    def wrong(*_, **__):
        raise error

    monkeypatch.setattr("dpvae_cli.recipe.load_recipe", wrong)
    done = CliRunner().invoke(app, ["train", "vae_moons"])
    assert done.exit_code == 2
    assert said in done.stderr


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ValueError("a bug"), OSError("a bug")])
def test_a_bug_stays_a_traceback(error, monkeypatch):
    def wrong(*_, **__):
        raise error

    monkeypatch.setattr("dpvae_cli.recipe.load_recipe", wrong)
    assert CliRunner().invoke(app, ["train", "vae_moons"]).exception is error


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_closed_streams_write_nowhere(closed, tmp_path):
    """No file that is opened later takes the number of a closed stream, and gets what it prints."""
    command = shlex.join([*MODULE, *TRAIN, "--run-dir", str(tmp_path / "run")])
    done = run("-c", f"{command} {closed}", start=("bash",), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b"" or closed == ">&-"
    assert b"Traceback" not in done.stderr
    checkpoints.read_checkpoint(tmp_path / "run" / "checkpoint.pt")


@pytest.mark.parametrize("variable", ["WORLD_SIZE", "RANK", "LOCAL_RANK"])
def test_a_launcher_s_variable_that_is_no_number_is_named(variable, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    launched = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    launched |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", variable: "abc"}
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(app, TRAIN)
    assert done.exit_code == 2
    assert f"{variable} is 'abc'" in done.stderr


def test_a_user_without_a_home_is_told_which_variable_to_set(tmp_path, monkeypatch):
    for variable in ("HOME", "XDG_CACHE_HOME", "DPVAE_CACHE", "DPVAE_DATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)

    def nobody(number):
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    done = CliRunner().invoke(app, ["train", "vae_mnist", "--no-download"])
    assert done.exit_code == 2, done.exception
    assert "DPVAE_CACHE" in done.stderr
    done = CliRunner().invoke(app, [*TRAIN, "--run-dir", "run"])
    assert done.exit_code == 0, (done.stderr, done.exception)


def test_a_long_tmpdir_does_not_stop_a_study(tmp_path):
    long = tmp_path / ("x" * 90)
    long.mkdir()
    code = "from dpvae_cli.studies.executors import local; print(local.HAS_FORKSERVER)"
    method = run(
        "-c", code, start=(sys.executable,), cwd=tmp_path, environment={"TMPDIR": str(long)}
    )
    assert method.stdout.split() == [b"False"]
    assert local.HAS_FORKSERVER

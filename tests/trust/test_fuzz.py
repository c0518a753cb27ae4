"""Whatever is typed or written: it works, or one message says what is wrong and where.

The short forms run always, with the same cases each time; `make test-slow` runs 10,000 new ones in
process and 50 as processes of their own.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image
from typer.testing import CliRunner

from dpvae_cli.cli.app import app
from dpvae_cli.recipe.document import truncate
from tests.small import SMALL
from tests.trust import hostile

GOOD = (0, 2, 3, 4)
"""Done; or the user's input, missing data, or a bad checkpoint."""
SHORT = {"recipes": 60, "overrides": 40, "studies": 30, "dry-runs": 15, "arguments": 25}
LONG = {
    "recipes": 3_600,
    "overrides": 2_600,
    "studies": 1_200,
    "dry-runs": 1_000,
    "arguments": 1_600,
}
assert sum(LONG.values()) == 10_000


def cases(count, *, again=False):
    """Return settings for a number of cases, the same at each run if `again`."""
    return settings(
        max_examples=count,
        derandomize=again,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=not again,
    )


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    """Work in a folder with a finished run, a picture and nothing else."""
    folder = tmp_path_factory.mktemp("fuzz") / "deep" / "inside"
    folder.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DPVAE_CACHE", str(folder.parent / "cache"))
        patch.setenv("TORCH_HOME", str(folder.parent / "torch"))
        patch.delenv("DPVAE_DATA", raising=False)
        invoke("train", "vae_moons", *SMALL, "--run-dir", "run", "--quiet")
        Image.new("RGB", (9, 9)).save("picture.png")
        yield folder


def invoke(*arguments):
    return CliRunner().invoke(app, list(arguments))


def judge(done, named=(), codes=GOOD):
    """Assert that a command worked, or ended with a code and a message that names the place."""
    unexpected = done.exception
    if unexpected is not None and not isinstance(unexpected, SystemExit):
        raise unexpected
    assert done.exit_code in codes, done.output
    assert "Traceback" not in done.output
    if done.exit_code:
        assert done.stderr.strip()
        assert "\x1b" not in done.stderr.replace("\\x1b", ""), "the terminal would obey"
        assert len(done.stderr) < 60_000
        said = " ".join(done.stderr.split())
        assert not named or any(truncate(each) in said for each in named), (named, said)


def checked(case):
    Path("mine.yaml").write_bytes(case.content)
    judge(invoke("recipes", "validate", "mine.yaml", *safe(case.overrides)), case.named, (0, 2))


def shown(case):
    Path("mine.yaml").write_bytes(case.content)
    judge(invoke("recipes", "show", "mine.yaml", *safe(case.overrides)), case.named, (0, 2))


def planned(case):
    Path("mine.yaml").write_bytes(case.content)
    asked = ("reproduce", "mine.yaml", *safe(case.overrides), "--dry-run", "--device", "cpu")
    judge(invoke(*asked), case.named, (0, 2))


def tried(case):
    Path("mine.yaml").write_bytes(case.content)
    asked = ("train", "mine.yaml", *safe(case.overrides), "--dry-run", "--device", "cpu")
    judge(invoke(*asked), (*case.named, "architecture", "data", "likelihood"), (0, 2, 3, 5))


def safe(overrides):
    """Return overrides, what looks like options behind the mark that ends them."""
    return ("--", *overrides) if any(each.startswith("-") for each in overrides) else overrides


def typed(arguments):
    judge(invoke(*arguments), codes=(*GOOD, 1) if arguments[0] == "eval" else GOOD)


PAIRS = {
    "recipes": (hostile.recipes(), checked),
    "overrides": (hostile.overridden(), shown),
    "studies": (hostile.studies(), planned),
    "dry-runs": (hostile.recipes() | hostile.overridden(), tried),
    "arguments": (hostile.arguments(), typed),
}


@pytest.mark.parametrize("what", PAIRS)
def test_bad_input_ends_with_a_message(what):
    strategy, check = PAIRS[what]
    cases(SHORT[what], again=True)(given(strategy)(check))()


@pytest.mark.slow
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("what", PAIRS)
def test_ten_thousand_times(what):
    strategy, check = PAIRS[what]
    cases(LONG[what])(given(strategy)(check))()


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_fifty_processes():
    """A process of its own also meets arguments that are no UTF-8 and a stdout that is ASCII."""

    def run(case, arguments):
        Path("mine.yaml").write_bytes(case.content)
        asked = ["recipes", "validate", "mine.yaml", *safe(case.overrides)]
        chosen = asked if len(case.content) % 2 else arguments
        encoded = [word.replace("\0", "").encode("utf-8", "surrogatepass") for word in chosen]
        done = subprocess.run(
            [sys.executable, "-m", "dpvae_cli", *encoded],
            capture_output=True,
            check=False,
            timeout=300,
        )
        codes = (*GOOD, 1) if chosen[0] == "eval" else GOOD
        assert done.returncode in codes, done.stderr.decode(errors="replace")
        assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
        assert done.stderr if done.returncode else True

    both = given(hostile.recipes() | hostile.overridden(), hostile.arguments())
    cases(50, again=True)(both(run))()


def test_file_names_of_any_bytes_are_told_on_any_terminal(monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    odd = b"\xff\xfe \xc3\xa9.yaml"
    Path(odd.decode("utf-8", "surrogateescape")).write_text(hostile.BASES["vae_moons"])
    command = [sys.executable, "-m", "dpvae_cli", "recipes", "validate"]
    good = subprocess.run([*command, odd], capture_output=True, check=False, timeout=100)
    assert (good.returncode, good.stderr) == (0, b"")
    bad = subprocess.run([*command, odd, b"seed=x"], capture_output=True, check=False, timeout=100)
    assert bad.returncode == 2
    assert b"seed=x" in bad.stderr
    assert b"Traceback" not in bad.stderr


def test_a_traceback_would_be_noticed(monkeypatch):
    """Guard the tests above: an error that nobody expected fails them."""
    monkeypatch.setattr("dpvae_cli.recipe.document.recipe_names", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        checked(hostile.Case(b"data: moons\n", (), ()))

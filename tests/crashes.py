"""Kill training, cache building and evaluation at random moments, go on, and compare the end.

`DPVAE_KILLS` says how many kills of each (10), `DPVAE_CRASH_SEED` (0) which moments.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.runs.run_folder import BEST, CURRENT, PREVIOUS
from tests.same import assert_same_run, logged
from tests.small import SMALL
from tests.studies.tiny import written

ROOT = Path(__file__).parents[1]
KILLED = -signal.SIGKILL
KINDS = ("clock", "file", "write")
"""After a time; at an operation on a file of the run; with half of some bytes written."""
NEVER = {"kind": "never", "at": 0}
SHORT = (
    *(part for part in SMALL if not part.startswith("training.")),
    "training.batch_size=16",
    "training.iterations=24",
    "training.log_every=3",
    "training.validate_every=8",
    "training.checkpoint_every=2",
)
OF_PICTURES = tuple(part for part in SHORT if not part.startswith("data."))
METRICS = "elbo,skl,nll,leak,active_units"
QUIET = ("train", "eval", "fit-prior", "diagnose", "reproduce")


def kills_wanted():
    return int(os.environ.get("DPVAE_KILLS", "10"))


def seed_wanted():
    return int(os.environ.get("DPVAE_CRASH_SEED", "0"))


@dataclass
class Whole:
    """What an uninterrupted process left, and how much there is of what one may die at."""

    folder: Path
    most: dict


class Crashes:
    """Runs `dpvae` processes and kills them; every folder it uses lies in `place`."""

    def __init__(self, place, *, seed):
        self.kills = 0
        self._place, self._random = place, random.Random(seed)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.crash_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.stdin.close()
        self._server.wait(timeout=60)
        self._server.stdout.close()

    def run(self, folder, arguments, death=NEVER):
        """Run a command in a folder of its own and return its exit code, negative for a signal."""
        order = {
            "folder": str(folder),
            "arguments": [*arguments, *(["--quiet"] if arguments[0] in QUIET else [])],
            "death": death,
            "environment": {"DPVAE_CACHE": str(folder / "cache")},
            "log": str(folder / "log.txt"),
            "counts": str(folder / "counts.json"),
        }
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        log = (folder / "log.txt").read_text()
        assert code in (0, KILLED), f"{arguments}\n{death}\n{log}"
        assert "Traceback" not in log, log
        return code

    def uninterrupted(self, name, commands):
        """Run the commands to their end; the last of them is the one to be killed later."""
        folder = self.fresh(f"{name}-whole")
        for command in commands:
            start = _clock()
            assert self.run(folder, command) == 0
        counts = json.loads((folder / "counts.json").read_text())
        return Whole(folder, {"clock": _clock() - start, **counts})

    def fresh(self, name):
        """Return an empty folder of that name."""
        folder = self._place / name
        folder.mkdir(parents=True)
        return folder

    def drawn(self, whole):
        """Return a way and a moment to die."""
        kind = self._random.choice(KINDS)
        most = whole.most[kind]
        at = self._random.uniform(0, most) if kind == "clock" else self._random.randint(1, most)
        return {"kind": kind, "at": at}

    def dies(self, folder, arguments, death):
        """Run a command that shall die and tell whether it did."""
        died = self.run(folder, arguments, death) == KILLED
        self.kills += died
        return died


def _clock():
    return time.monotonic()


def kill_training(crashes, regularizer, *, kills):
    """Kill runs of a regularizer, each up to three times, and compare every end bit for bit."""
    width = ("regularizer.width=8",) if regularizer == "factor" else ()
    start = ("train", f"{regularizer}_moons", *SHORT, *width, "--run-dir", "run")
    whole = crashes.uninterrupted(regularizer, [start])
    before, number = crashes.kills, 0
    while crashes.kills - before < kills:
        folder = crashes.fresh(f"{regularizer}-{number}")
        number += 1
        _train_under_fire(crashes, folder, start, whole, times=min(3, kills))
        assert_same_run(whole.folder / "run", folder / "run")
        assert _names(folder / "run") == _names(whole.folder / "run")
        for name in ("recipe.yaml", "samples.png"):
            assert (folder / "run" / name).read_bytes() == (
                whole.folder / "run" / name
            ).read_bytes()
        shutil.rmtree(folder)


def _train_under_fire(crashes, folder, start, whole, *, times):
    reached = {}
    for _ in range(times):
        if not crashes.dies(folder, _going_on(folder, start), crashes.drawn(whole)):
            break
        reached = sound(folder / "run", reached)
    assert crashes.run(folder, _going_on(folder, start)) == 0


def _going_on(folder, start):
    """Return what a user types: start, or go on with what is there."""
    if (folder / "run" / "recipe.yaml").is_file():
        return ("train", "--resume", "--run-dir", "run")
    return start


def sound(run, before):
    """Check that no checkpoint is damaged, and none missing or older than before the kill."""
    reached = {}
    for name in (CURRENT, PREVIOUS, BEST):
        if (run / name).is_file():
            reached[name] = checkpoints.read_checkpoint(run / name).iteration
    assert before.keys() <= reached.keys()
    current = CURRENT
    assert reached.get(current, 0) >= before.get(current, 0)
    if PREVIOUS in reached:
        assert reached[PREVIOUS] <= reached[current]
    return reached


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def kill_cache_building(crashes, *, kills):
    """Kill the decoding of a folder of pictures; the next command decodes them as ever."""
    pictures(crashes.fresh("pictures"))
    data = f"data={{kind: folder, path: {crashes.fresh('elsewhere').parent}/pictures, size: 16}}"
    start = ("train", "vae_moons", data, *OF_PICTURES, "training.iterations=2", "--run-dir", "run")
    whole = crashes.uninterrupted("cache", [start])
    before, number = crashes.kills, 0
    while crashes.kills - before < kills:
        folder = crashes.fresh(f"cache-{number}")
        number += 1
        crashes.dies(folder, start, crashes.drawn(whole))
        sound(folder / "run", {})
        assert crashes.run(folder, _going_on(folder, start)) == 0
        assert_same_run(whole.folder / "run", folder / "run")
        one, other = whole.folder / "cache" / "pictures", folder / "cache" / "pictures"
        assert _names(one) == _names(other)
        assert all((one / name).read_bytes() == (other / name).read_bytes() for name in _names(one))
        shutil.rmtree(folder)


def pictures(folder, count=150):
    generator = np.random.default_rng(0)
    for number in range(count):
        values = generator.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{number}.png")


def kill_evaluation(crashes, *, kills):
    """Kill `dpvae eval`; called again it measures what it would have measured."""
    train = ("train", "vae_moons", *SHORT, "--run-dir", "run")
    measure = ("eval", "run", "--metrics", METRICS, "evaluation.nll_images=12")
    whole = crashes.uninterrupted("evaluation", [train, measure])
    before, number = crashes.kills, 0
    while crashes.kills - before < kills:
        folder = crashes.fresh(f"evaluation-{number}")
        number += 1
        trained = {CURRENT, "recipe.yaml", "metrics.jsonl"}
        (folder / "run").mkdir()
        for name in trained:
            shutil.copy(whole.folder / "run" / name, folder / "run" / name)
        crashes.dies(folder, measure, crashes.drawn(whole))
        assert checkpoints.read_checkpoint(folder / "run" / CURRENT).iteration == 24
        assert crashes.run(folder, measure) == 0
        for name in ("metrics.json", "checkpoint.nll.npz", "checkpoint.encodings.npz"):
            assert (folder / "run" / name).read_bytes() == (
                whole.folder / "run" / name
            ).read_bytes(), name
        shutil.rmtree(folder)


QUICK = (
    *(part for part in SHORT if not part.startswith("training.")),
    "training.batch_size=16",
    "training.iterations=8",
    "training.log_every=4",
    "training.validate_every=4",
    "training.checkpoint_every=4",
    *("prior=standard_normal", "fitting.iterations=4", "fitting.batch_size=16"),
)
TRAIN = ("train", "vae_moons", *QUICK, "--run-dir", "run")
FITTED = (*TRAIN, "fit_prior=decoupled")
NEW = (*FITTED, "seed=1")
FIT = ("fit-prior", "run", "--out", "fitted", "fitting.iterations=4", "fitting.batch_size=16")
STUDY = ("reproduce", "../tiny.yaml", "--device", "cpu", "--jobs", "1")
OLD = (TRAIN, ("eval", "run", "--metrics", "skl"), ("encode", "run", "--split", "test"))


@dataclass(frozen=True)
class Sweep:
    """A command that is killed before everything it does to a folder's names, and at every sync.

    Args:
        before: commands that come before.
        command: the one that is killed.
        folder: which it writes into.
        go_on: returns what is typed next, given the working folder.
    """

    before: tuple
    command: tuple
    folder: str
    go_on: object


def _again(sweep, place):
    return sweep.command


def _resumed(sweep, place):
    return _going_on(place, sweep.command)


def _replaced(sweep, place):
    """The old run is whole, and the new one is begun again; or the new one is there and goes on."""
    run = place / "run"
    seed = checkpoints.read_checkpoint(run / CURRENT).recipe.seed
    if "\nseed: 1\n" in (run / "recipe.yaml").read_text():
        return ("train", "--resume", "--run-dir", "run")
    assert seed == 0
    assert (run / "metrics.json").is_file()
    assert (run / "codes" / "test.npz").is_file()
    return sweep.command


SWEEPS = {
    "train with fit_prior": Sweep((), FITTED, "run", _resumed),
    "train --overwrite": Sweep(OLD, (*NEW, "--overwrite"), "run", _replaced),
    "fit-prior": Sweep((TRAIN,), FIT, "fitted", _again),
    "fit-prior --overwrite": Sweep((TRAIN, FIT), (*FIT, "--overwrite"), "fitted", _again),
    "eval": Sweep((TRAIN,), ("eval", "run", "--metrics", "skl,elbo"), "run", _again),
    "diagnose": Sweep((TRAIN,), ("diagnose", "run", "--quick"), "run", _again),
    "report": Sweep(OLD, ("report", "run", "--out", "report"), "report", _again),
    "study": Sweep((), STUDY, "studies/tiny", _again),
}


def kill_at_every_step(crashes, name, *, every=1):
    """Kill a command before each step in turn; the next command brings it to the same end."""
    sweep = SWEEPS[name]
    start = crashes.fresh(f"{name}-start")
    write_study(start.parent)
    whole = crashes.uninterrupted(f"{name}-whole", [*sweep.before, sweep.command])
    for command in sweep.before:
        assert crashes.run(start, command) == 0
    for step in range(1, whole.most["step"] + 1, every):
        place = crashes.fresh("place")
        shutil.copytree(start, place, symlinks=True, dirs_exist_ok=True)
        assert crashes.dies(place, sweep.command, {"kind": "step", "at": step}), step
        if (place / sweep.folder / CURRENT).is_file():
            checkpoints.read_checkpoint(place / sweep.folder / CURRENT)
        assert crashes.run(place, sweep.go_on(sweep, place)) == 0, step
        _assert_same_end(whole.folder, place, sweep.folder, step)
        shutil.rmtree(place)
    return whole.most["step"]


def write_study(folder):
    """Write tiny.yaml, a study of one cell."""
    settings = dict(part.split("=", 1) for part in QUICK if not part.startswith("prior="))
    written(
        folder,
        axes={"prior": ["standard_normal"], "seed": [0]},
        overrides={key: yaml.safe_load(value) for key, value in settings.items()},
        metrics=["elbo"],
    )


def _assert_same_end(whole, place, folder, step):
    assert _all_names(place) ^ _all_names(whole) == set(), step
    for recipe in place.glob("studies/tiny/*/recipe.yaml"):
        _assert_same_cell(whole / recipe.parent.relative_to(place), recipe.parent, step)
    for report in place.glob("studies/tiny/[!.]*.*"):
        assert _timeless(report) == _timeless(whole / report.relative_to(place)), (step, report)
    if (place / folder / CURRENT).is_file():
        if (place / folder / BEST).is_file():
            assert_same_run(whole / folder, place / folder)
        assert logged(whole / folder) == logged(place / folder)


def _assert_same_cell(one, other, step):
    assert_same_run(one, other)
    for name in ("recipe.yaml", "metrics.json", "samples.png"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), (step, name)


def _timeless(report):
    """Return the lines of a study's file but those that tell when a run was started."""
    return [line for line in report.read_text().splitlines() if '"started"' not in line]


def _all_names(place):
    """Return what lies in a folder; but encodings, a cache that the next command makes."""
    names = (path.relative_to(place).as_posix() for path in place.rglob("*"))
    return {name for name in names if not name.endswith(".encodings.npz")}

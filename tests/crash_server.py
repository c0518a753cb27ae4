"""Forks a `dpvae` process for every order it reads, and kills it where the order says so.

torch is imported once, not at every start, so that a kill costs tenths of a second. An order is a
line of JSON, and so is the answer: the exit code, or minus the number of the signal.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
import torch._dynamo  # an optimizer imports it, for two seconds

from dpvae_cli.cli.app import app
from dpvae_cli.evaluation import nll_cache
from dpvae_cli.foundation import files
from dpvae_cli.plotting import samples
from dpvae_cli.studies.executors import local

OPERATIONS = {"open", "os.rename", "os.link", "os.remove", "os.chmod", "os.mkdir", "os.truncate"}
STEPS = {
    *("os.rename", "os.link", "os.symlink", "os.remove", "os.mkdir", "os.rmdir"),
}
"""What changes the names in a folder; os.fsync, of which Python raises no audit event, is added."""
POLL = 0.001


class Operations:
    """Counts operations on files of a folder, and writes, and dies at one of them."""

    def __init__(self, folder, death):
        self._folder, self._kind, self._at = str(folder), death["kind"], death["at"]
        self.counts = {"file": 0, "write": 0, "step": 0}
        sys.addaudithook(self._hear)
        fsync = os.fsync
        os.fsync = lambda descriptor: self._count("step") or fsync(descriptor)
        hear = self._hear_of_write

        class HeardFile(files.FileIO):
            def write(self, data):
                hear(self, data)
                return super().write(data)

        files.FileIO = HeardFile

    def _hear(self, event, arguments):
        if event in STEPS:
            self._count("step")
        if event not in OPERATIONS or not arguments or not isinstance(arguments[0], (str, Path)):
            return
        if str(arguments[0]).startswith((self._folder, "run")):
            self._count("file")

    def _hear_of_write(self, file, data):
        if self._kind == "write" and self.counts["write"] + 1 == self._at:
            os.write(file.fileno(), bytes(data)[: len(data) // 2])
        self._count("write")

    def _count(self, kind):
        self.counts[kind] += 1
        if kind == self._kind and self.counts[kind] == self._at:
            os.kill(os.getpid(), signal.SIGKILL)


def run_here(_, cells, task, on_event):
    """Run a study's cells in this process, which is then killed, and not in one of their own."""
    return [task(cell, device="cpu") for cell in cells]


def become(order):
    """Be the process that the order describes, to its end."""
    os.chdir(order["folder"])
    os.environ.update(order["environment"])
    samples.save_picture = lambda path, *_, **__: files.write_text(
        path, "a picture"
    )  # a second each
    nll_cache.WRITE_EVERY = 0.0  # so that there is something to go on with
    local.start_forkserver = lambda: None
    local.LocalExecutor.run = run_here
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor, target in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
        os.dup2(descriptor, target)
    operations = Operations(order["folder"], order["death"])
    code = 0
    try:
        app(order["arguments"], prog_name="dpvae")
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    Path(order["counts"]).write_text(json.dumps(operations.counts))
    sys.stdout.flush()
    os._exit(code)


def waited(pid, death):
    """Return how the process ended; it is killed where that is how it shall die."""
    if death["kind"] == "clock":
        end = time.monotonic() + death["at"]
        while time.monotonic() < end:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(POLL)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def warm_up():
    """Set up what every process needs; nothing here starts a thread."""
    torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], fused=True)


def main():
    torch.set_num_threads(1)
    warm_up()
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            try:
                become(order)
            finally:
                os._exit(99)
        sys.stdout.write(f"{waited(pid, order['death'])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

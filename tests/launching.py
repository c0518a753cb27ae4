"""Start modules as users do who have several processes."""

import json
import os
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

from typer.testing import CliRunner

from dpvae_cli.cli.app import app

ROOT = Path(__file__).parents[1]


def torchrun(size, *arguments, timeout=200, **environment):
    """Run a module in several processes of one thread each; return it finished."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*command, f"--nproc-per-node={size}", "-m", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def forked(size, *arguments):
    """Run a command in forks of this process, in which nothing has to be imported anew.

    Returns:
        what rank 0 printed, and the worst exit code.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    launched = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with TemporaryDirectory() as folder:
        files = [Path(folder, f"{rank}.json") for rank in range(size)]
        forks = [
            _fork(file, arguments, launched | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank, file in enumerate(files)
        ]
        for process in forks:
            os.waitpid(process, 0)
        codes, printed, errors = zip(*(json.loads(file.read_text()) for file in files), strict=True)
    return SimpleNamespace(returncode=max(codes), stdout=printed[0], stderr="".join(errors))


def _fork(file, arguments, launched):
    """Run a command in a fork and write exit code, stdout and stderr to a file."""
    process = os.fork()
    if process == 0:
        try:
            os.environ.update(launched)
            done = CliRunner().invoke(app, [*map(str, arguments)])
            error = "".join(traceback.format_exception(*done.exc_info))
            told = done.stderr + error * (done.exit_code != 0)
            file.write_text(json.dumps([done.exit_code, done.stdout, told]))
        finally:
            os._exit(0)
    return process

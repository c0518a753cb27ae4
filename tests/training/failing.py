"""The command line with one process that fails in the middle; started by torchrun.

    torchrun ... -m tests.training.failing HOW train RECIPE ...

HOW is what happens to process 1 at iteration 5: `diverges`, `breaks`, or `is_killed`.
"""

import os
import signal
import sys

from dpvae_cli.cli.app import app
from dpvae_cli.foundation.errors import DivergedError
from dpvae_cli.training.train import Trainer

HOW = sys.argv[1]
plain = Trainer.step


def step(self):
    if self.state.iteration == 5 and self.group.rank == 1:
        if HOW == "is_killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise DivergedError("this is process 1's own error") if HOW == "diverges" else KeyError(HOW)
    return plain(self)


if __name__ == "__main__":
    Trainer.step = step
    app(sys.argv[2:], prog_name="dpvae")

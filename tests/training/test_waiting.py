"""Between two logging steps nothing waits for the device: no value of a tensor is asked for.

Counted on a CPU, where every question (item, float, bool, int, tolist, nonzero) goes through the
same operators as on a GPU, with the guard as a GPU has it.
"""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dpvae_cli.foundation.distributed import SINGLE_PROCESS
from dpvae_cli.runs.run_folder import RunFolder
from dpvae_cli.training.events import Callback
from dpvae_cli.training.recorder import Recorder
from dpvae_cli.training.train import Trainer
from tests.small import PRIORS, REGULARIZERS, small_recipe
from tests.training.test_finite_check import set_deferred

CPU = torch.device("cpu")
ASKING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2", "is_nonzero")


class Questions(TorchDispatchMode):
    """Counts the operators whose answer the program needs before it can go on."""

    def __init__(self):
        super().__init__()
        self.asked = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.asked.update([name] if name in ASKING else [])
        return func(*args, **(kwargs or {}))


def accelerated(recipe):
    """Return a trainer with the guard that accelerators have, past its first steps."""
    trainer = Trainer(recipe, recipe.data.load(), CPU)
    set_deferred(trainer, deferred=True)
    trainer.step()
    return trainer


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_a_step_asks_for_no_value(regularizer, prior):
    trainer = accelerated(small_recipe(regularizer, f"prior={prior}", "training.ema=0.9"))
    with Questions() as questions:
        for _ in range(10):  # past the end of an epoch of 120 examples
            trainer.step()
    assert not questions.asked


def test_the_loop_asks_at_logging_steps_alone(tmp_path):
    quiet = ("training.validate_every=1000", "training.checkpoint_every=1000")
    recipe = small_recipe("factor", "training.iterations=1000", "training.log_every=5", *quiet)
    trainer = accelerated(recipe)
    counted = {}

    class Counting(Callback):
        def on_step(self, iteration):
            counted[iteration] = questions.asked.total()
            if iteration == 13:
                raise StopIteration

    recorder = Recorder(RunFolder(tmp_path), SINGLE_PROCESS, Counting())
    with Questions() as questions, pytest.raises(StopIteration):
        trainer.fit(recorder)
    per_step = {i + 1: counted[i + 1] - counted[i] for i in range(2, 13)}
    # what is due after step i is counted before step i + 1 is heard of
    assert {i for i, questions in per_step.items() if questions} == {6, 11}


def test_the_count_can_fail():
    trainer = Trainer(small_recipe(), small_recipe().data.load(), CPU)
    with Questions() as questions:
        trainer.step()
    assert questions.asked == {"_local_scalar_dense": 1}, "a CPU's guard reads each loss"

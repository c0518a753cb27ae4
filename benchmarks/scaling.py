"""Time of a training step and of log q(z), distributed over the processes of torchrun.

    torchrun --standalone --nproc-per-node 2 -m benchmarks.scaling
    python -m benchmarks.scaling --threads 2            # one process

Prints one line per workload: the median over rounds on rank 0. The batch size is global, so the
work of a step does not depend on the number of processes; with two processes, any time above one
half is the overhead of communication. See docs/scaling.md.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks import stand_ins
from benchmarks.aggregate_posterior import drawn
from dpvae_cli.foundation import devices
from dpvae_cli.foundation.distributed import ProcessGroup, process_group
from dpvae_cli.recipe import load_recipe
from dpvae_cli.sampling.samples import aggregate_posterior
from dpvae_cli.training.train import Trainer

ROUNDS, STEPS = 5, 5
POINTS = 5_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="threads per process")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with process_group() as group:
        device = devices.resolve()
        if group.is_main_process:
            print(f"{group.world_size} processes of {given.threads} threads, {device}")
        for name, work in workloads(group, device):
            seconds = median(work, group, device)
            if group.is_main_process:
                print(f"{name:32}{1e3 * seconds:10.1f} ms")


def workloads(group: ProcessGroup, device: torch.device) -> list[tuple[str, Callable[[], object]]]:
    """Return the timed functions."""
    found: list[tuple[str, Callable[[], object]]] = []
    digits, faces = stand_ins.mnist(5_000), stand_ins.dataset(1_000, 3, 64, 64)
    for name, data in (("vae_mnist", digits), ("factor_mnist", digits), ("vae_celeba", faces)):
        trainer = Trainer(load_recipe(name), data, device, group=group)
        found.append((f"{name}, a step", trainer.step))
    aggregate = aggregate_posterior(*(t.to(device) for t in drawn(60_000, 32, 0.3)), group=group)
    z = torch.randn(POINTS, 32, generator=torch.Generator().manual_seed(0))
    found.append(("log q(z), 5,000 x 60,000, L = 32", lambda: aggregate.log_prob(z)))
    return found


def median(work: Callable[[], object], group: ProcessGroup, device: torch.device) -> float:
    """Return seconds per call, the median over rounds of several calls."""
    work()
    rounds = []
    for _ in range(ROUNDS):
        group.barrier()
        start = time.perf_counter()
        for _ in range(STEPS):
            work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        rounds.append((time.perf_counter() - start) / STEPS)
    return statistics.median(rounds)


if __name__ == "__main__":
    main()

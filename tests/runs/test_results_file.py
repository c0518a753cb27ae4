"""metrics.json and digests when several processes work on one run."""

import multiprocessing
from dataclasses import replace

import pytest
import torch

from dpvae_cli.evaluation.metrics import METRICS
from dpvae_cli.foundation.results import Result
from dpvae_cli.foundation.text import read_json
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.runs import loaded_run, results_file
from dpvae_cli.runs.evaluate_run import evaluate_run
from dpvae_cli.training.train import train
from tests.small import small_recipe

WRITERS, ROUNDS = 4, 8


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(small_recipe(), folder)
    return loaded_run.load_run(folder)


def interrupt(_):
    raise KeyboardInterrupt


def test_an_interrupt_loses_no_finished_metric(run, monkeypatch):
    interrupted = replace(METRICS["skl_knn"], function=f"{__name__}:interrupt")
    monkeypatch.setitem(METRICS, "skl_knn", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate_run(run, ["skl", "skl_knn"])
    assert [result["metric"] for result in results_file.read_results(run)["results"]] == ["skl"]


def _keep_results(run, *names):
    results = [Result(name, 1.0, None, "nats", samples=1, seed=0, split=None) for name in names]
    results_file.merge_results(run, results_file.run_results(run, results))


def _keep(run, writer, start):
    torch.set_num_threads(1)
    start.wait()
    for number in range(ROUNDS):
        _keep_results(run, f"metric_{writer}_{number}")


def test_processes_that_measure_at_once_lose_no_result(run):
    context = multiprocessing.get_context("fork")
    start = context.Barrier(WRITERS)
    arguments = [(run, writer, start) for writer in range(WRITERS)]
    writers = [context.Process(target=_keep, args=each) for each in arguments]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * WRITERS
    names = {result["metric"] for result in read_json(run.folder.metrics)["results"]}
    assert names >= {f"metric_{w}_{n}" for w in range(WRITERS) for n in range(ROUNDS)}


def test_a_checkpoint_that_is_replaced_while_it_is_opened_keeps_its_own_digest(
    tmp_path, monkeypatch
):
    train(small_recipe(), tmp_path / "run")
    file = tmp_path / "run" / "checkpoint.pt"
    before = checkpoints.file_digest(file)
    build = checkpoints.build

    def build_and_replace(*args, **kwargs):
        newer = checkpoints.read_checkpoint(file)
        replace(newer, iteration=newer.iteration + 1).write(file)
        return build(*args, **kwargs)

    monkeypatch.setattr(checkpoints, "build", build_and_replace)
    run = loaded_run.load_run(file)
    assert checkpoints.file_digest(file) != before
    assert (run.digest, run.iteration) == (before, 20)

"""What a report reads in run folders, and which command it names where something is missing."""

import json

import pytest

from dpvae_cli.foundation.errors import MissingError, UsageError
from dpvae_cli.studies.deviations import deviation_notes, deviations
from dpvae_cli.studies.grouping import group_runs
from dpvae_cli.studies.records import (
    RunStatus,
    check_any_measured,
    discover,
    read_run,
    sanitize_line,
)
from tests.small import small_recipe
from tests.studies.runs import pairs, result, write_metrics, write_run

SKL = [result("skl", 1.0)]


def test_folders_runs_and_checkpoints_are_found_once(tmp_path):
    runs = pairs(tmp_path / "study", {0: (2.0, 1.0)})
    (runs[0] / "checkpoint.pt").touch()
    (tmp_path / "study" / "latest").symlink_to(runs[0].name)
    hidden = write_run(tmp_path / "study" / ".trash")
    found = discover([tmp_path / "study", runs[0], runs[0] / "checkpoint.pt"])
    assert sorted(found) == sorted(runs)
    assert hidden not in found
    assert discover([tmp_path / "study" / "latest"])[0].resolve() == runs[0]


def test_nothing_there_and_nothing_in_it(tmp_path):
    with pytest.raises(MissingError, match="there is nothing at"):
        discover([tmp_path / "nowhere"])
    with pytest.raises(MissingError, match="holds none") as caught:
        discover([tmp_path])
    assert "dpvae train" in caught.value.hint


def test_a_finished_and_measured_run(tmp_path):
    run = read_run(write_run(tmp_path, results=SKL, seed=3))
    assert (run.status, run.reason, run.iteration) == (RunStatus.measured, "", 20)
    assert (run.recipe.name, run.recipe.prior.kind, run.recipe.seed) == (
        "vae_moons",
        "decoupled",
        3,
    )
    assert run.results[0].value == 1.0
    assert run.environment["device"] == "cpu"


def test_states_that_do_not_count(tmp_path):
    unfinished = read_run(write_run(tmp_path, results=SKL, reached=15, name="a"))
    assert (unfinished.status, unfinished.reason) == (RunStatus.unfinished, "at iteration 15 of 20")
    started = read_run(write_run(tmp_path, reached=0, name="b"))
    assert started.reason == "at iteration 0 of 20"
    assert read_run(write_run(tmp_path, name="c")).status is RunStatus.not_measured
    stale = write_run(tmp_path, name="d")
    write_metrics(stale, SKL, recipe="vae_moons", iteration=10)
    assert "earlier state" in read_run(stale).reason
    assert read_run(tmp_path / "never_begun").reason == "there is no recipe.yaml"
    for name in "abcd":
        assert not read_run(tmp_path / name).counts


def test_results_of_the_best_checkpoint_count_and_say_so(tmp_path):
    folder = write_run(tmp_path)
    write_metrics(folder, SKL, recipe="vae_moons", iteration=10, checkpoint="best.pt")
    run = read_run(folder)
    assert run.counts
    assert run.reason == "best.pt, iteration 10"
    experiments, _ = group_runs([run])
    assert any("best.pt" in notice for notice in deviation_notes(experiments))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"results": 3}',
        '{"results": [1, null, {}, {"metric": 7}]}',
        "[" * 5_000,
        '{"iteration": 20, "results": [{"metric": "skl", "value": "<b>", "samples": 1e999}]}',
        '{"iteration": 20, "results": [{"metric": "skl", "value": true, "details": []}]}',
    ],
)
def test_strange_results_are_no_numbers(tmp_path, text):
    folder = write_run(tmp_path)
    (folder / "metrics.json").write_text(text)
    run = read_run(folder)
    assert all(each.value is None for each in run.results)


def test_a_recipe_of_another_version_is_a_reason(tmp_path):
    folder = write_run(tmp_path, results=SKL)
    (folder / "recipe.yaml").write_text("data: {kind: holograms}\n")
    run = read_run(folder)
    assert run.status is RunStatus.unreadable
    assert "holograms" in run.reason


def test_a_torn_last_line_is_passed_over(tmp_path):
    folder = write_run(tmp_path, results=SKL)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 2')
    assert read_run(folder).iteration == 20


def test_without_results_the_name_is_that_of_the_folder(tmp_path):
    run = read_run(write_run(tmp_path, regularizer="factor", prior="standard_normal"))
    assert run.recipe.name == "factor_moons"
    assert read_run(write_run(tmp_path, name="whatever")).recipe.name == "whatever"


def test_text_from_outside_becomes_one_short_line():
    assert sanitize_line("a\n\tb\x00\u202ec") == "a b c"
    assert len(sanitize_line("x" * 10_000)) == 201


def test_nothing_measured_names_the_command(tmp_path):
    runs = [read_run(write_run(tmp_path, seed=seed)) for seed in range(4)]
    with pytest.raises(UsageError, match="none of 4 runs is measured") as caught:
        check_any_measured(runs)
    assert caught.value.hint.startswith(f"Measure first: dpvae eval {runs[0].path} ")
    unfinished = [read_run(write_run(tmp_path / "u", reached=5))]
    with pytest.raises(UsageError, match="at iteration 5 of 20") as caught:
        check_any_measured(unfinished)
    assert "--resume" in caught.value.hint


def test_pairs_share_all_but_prior_and_seed(tmp_path):
    pairs(tmp_path, {0: (2.0, 1.0), 1: (3.0, 1.0)})
    longer = ["training.iterations=40"]
    write_run(tmp_path, results=SKL, overrides=longer, reached=40, name="longer")
    same_but_logging = ["training.log_every=1", "evaluation.samples=60"]
    write_run(tmp_path, results=SKL, overrides=same_but_logging, seed=2, name="logged")
    experiments, left_out = group_runs([read_run(path) for path in discover([tmp_path])])
    assert not left_out
    labels = {s.label: {p: sorted(r) for p, r in s.runs.items()} for s in experiments}
    assert labels == {
        "vae_moons (training.iterations=20)": {"standard_normal": [0, 1], "decoupled": [0, 1, 2]},
        "vae_moons (training.iterations=40)": {"decoupled": [0]},
    }


def test_priors_of_one_kind_are_told_apart(tmp_path):
    for blocks in (2, 4):
        options = [f"prior.blocks={blocks}"]
        write_run(tmp_path, results=SKL, overrides=options, name=f"run{blocks}")
    [experiment], _ = group_runs([read_run(path) for path in discover([tmp_path])])
    assert sorted(experiment.runs) == ["decoupled (blocks=2)", "decoupled (blocks=4)"]


def test_a_repeated_run_is_left_out_and_a_measured_one_preferred(tmp_path):
    write_run(tmp_path, name="a", reached=5)
    write_run(tmp_path, name="b", results=SKL)
    [experiment], told = group_runs([read_run(path) for path in discover([tmp_path])])
    assert experiment.runs["decoupled"][0].label == "b"
    assert told == ["a repeats b and is left out"]


def test_only_like_is_compared_with_like(tmp_path):
    for seed in range(3):
        samples = 10 if seed == 2 else 50
        metrics = [result("skl", float(seed), samples=samples)]
        write_run(tmp_path, seed=seed, results=metrics)
    [experiment], _ = group_runs([read_run(path) for path in discover([tmp_path])])
    assert experiment.values("skl", "decoupled") == {0: 0.0, 1: 1.0}
    assert "1 of 3 results are left out" in experiment.warnings[0]


def test_what_differs_from_the_packaged_recipe():
    recipe = small_recipe("beta_b", "regularizer.gamma=3.0")
    found = {each.key: each for each in deviations(recipe)}
    assert " training iterations instead of " in str(found["training.iterations"])
    assert " instead of " in str(found["data.train"])
    assert ", in the packaged recipe " in str(found["regularizer.gamma"])
    assert "regularizer.stop_step" not in found
    assert "seed" not in found
    assert deviations(recipe.with_name("mine")) is None


def test_notices_say_what_was_shortened(tmp_path):
    note = "a toy: no published number compares"
    metrics = [
        result("skl", 1.0, samples=50),
        result(
            "nll", 1.0, samples=21_000, split="test", images=4, images_in_split=40, data_note=note
        ),
    ]
    for regularizer in ("vae", "beta_h"):
        write_run(tmp_path, regularizer=regularizer, results=metrics)
    experiments, _ = group_runs([read_run(path) for path in discover([tmp_path])])
    told = deviation_notes(experiments)
    assert "All 2 recipes: 20 training iterations instead of 8,000" in told
    assert "All 2 recipes: data.train is 120 instead of 10,000" in told
    assert "All 2 recipes: skl from 50 samples instead of 5,000" in told
    assert "All 2 recipes: nll on 4 of 40 test images" in told
    assert f"All 2 recipes: {note}" in told
    assert json.dumps(told).count("architecture.hidden") == 1

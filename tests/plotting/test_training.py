"""Training curves from metrics.jsonl."""

import dataclasses
import json

import numpy as np
import pytest

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.plotting import style, training
from dpvae_cli.plotting.training import TrainingCurves
from dpvae_cli.runs.metrics_log import MetricsLog
from tests.plotting.conftest import training_lines


def read(path, label="a run") -> TrainingCurves:
    return TrainingCurves.from_records(MetricsLog.read(path, strict=True), label)


def write(path, records) -> TrainingCurves:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return read(path)


def test_read_survives_a_truncated_last_line(metrics_file):
    curves = read(metrics_file)
    iterations, values = curves.series["train/loss"]
    assert iterations.tolist() == list(range(20, 3001, 20))
    assert np.isfinite(values).all()
    assert set(curves.series) == {
        "train/loss",
        "train/elbo",
        "train/reconstruction",
        "train/kl",
        "train/total_correlation",
        "validation/elbo",
        "validation/reconstruction",
        "validation/kl",
        "validation/active_units",
        "validation/skl",
    }


def test_read_turns_null_into_a_gap(metrics_file):
    iterations, values = TrainingCurves.from_records(
        MetricsLog.read(metrics_file, strict=True), "a run"
    ).series["validation/skl"]
    assert iterations[np.isnan(values)].tolist() == [600]


def test_a_resumed_run_overwrites_what_it_repeats(tmp_path):
    lines = [{"iteration": i, "kind": "train", "loss": float(i), "terms": {}} for i in (1, 2, 3)]
    again = [{"iteration": i, "kind": "train", "loss": 10.0 * i, "terms": {}} for i in (2, 3, 4)]
    iterations, values = write(tmp_path / "m.jsonl", lines + again).series["train/loss"]
    assert iterations.tolist() == [1, 2, 3, 4]
    assert values.tolist() == [1, 20, 30, 40]


@pytest.mark.parametrize("line", ['{"iteration": 1, "ki', "[1, 2]", '{"kind": "train"}', "3"])
def test_a_broken_line_before_the_last_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    good = json.dumps({"iteration": 1, "kind": "train", "loss": 1.0, "terms": {}})
    path.write_text(f"{good}\n{line}\n{good}\n")
    with pytest.raises(UsageError, match=r"metrics\.jsonl:2"):
        read(path)
    path.write_text(f"{good}\n{line}")
    assert len(read(path).series["train/loss"][0]) == 1


def test_a_missing_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        list(MetricsLog.read(tmp_path / "metrics.jsonl", strict=True))


def test_figure_has_a_panel_for_each_quantity(metrics_file, tmp_path):
    picture = training.training_figure([read(metrics_file)])
    titles = [ax.get_title(loc="left") for ax in picture.axes if ax.get_visible()]
    assert titles == [
        "ELBO, nats",
        "reconstruction, nats",
        "KL, nats",
        "sKL on 1,000 codes, nats",
        "active units",
        "loss",
        "total correlation",
    ]
    for path in style.save(picture, tmp_path / "training"):
        assert path.stat().st_size > 5_000


def test_training_and_validation_of_a_quantity_share_its_panel(metrics_file):
    run = read(metrics_file)
    picture = training.training_figure([run])
    for ax, name in zip(picture.axes, ("elbo", "reconstruction", "kl"), strict=False):
        raw, smooth, validation = ax.get_lines()
        values = run.series[f"train/{name}"][1]
        np.testing.assert_array_equal(raw.get_ydata(), values)
        np.testing.assert_array_equal(smooth.get_ydata(), training.running_mean(values))
        np.testing.assert_array_equal(validation.get_ydata(), run.series[f"validation/{name}"][1])
        assert (smooth.get_marker(), validation.get_marker()) == ("None", "o")
    parts = (run.series[f"train/{name}"][1] for name in ("reconstruction", "kl"))
    np.testing.assert_allclose(run.series["train/elbo"][1], -sum(parts))
    texts = [text.get_text() for text in picture.legends[0].get_texts()]
    assert texts == ["a run", "training, running mean", "validation"]


def test_figure_of_several_runs_draws_a_line_each_and_tells_twins(tmp_path):
    runs = []
    for number, prior in enumerate(("standard_normal", "decoupled")):
        path = tmp_path / f"{number}.jsonl"
        path.write_text("\n".join(map(json.dumps, training_lines(70.0 + number, number, 1000))))
        runs.append(read(path, f"beta_h-{prior}-seed0"))
    picture = training.training_figure(runs)
    colours = [line.get_color() for line in picture.axes[3].get_lines()]
    assert colours == [style.VERMILLION, style.BLUE]
    texts = [text.get_text() for text in picture.legends[0].get_texts()]
    assert texts[:2] == ["beta_h-standard_normal-seed0", "beta_h-decoupled-seed0"]
    runs[0] = dataclasses.replace(runs[0], title="beta-VAE")
    assert training.training_figure(runs).legends[0].get_texts()[0].get_text() == "beta-VAE"


def test_figure_shows_what_one_of_the_runs_lacks(tmp_path):
    full = write(tmp_path / "a.jsonl", training_lines(80.0, iterations=400))
    short = write(tmp_path / "b.jsonl", training_lines(80.0, iterations=20))
    picture = training.training_figure([short, full])
    assert len(picture.axes[3].get_lines()) == 1, "sKL of the longer run"
    assert style.save(picture, tmp_path / "picture.png")


def test_the_window_fits_what_comes_after_the_first_tenth(tmp_path):
    values = [1e6] * 5 + [2.0, 1.0] * 47
    records = [
        {"iteration": i, "kind": "validation", "elbo": value} for i, value in enumerate(values)
    ]
    low, high = training.training_figure([write(tmp_path / "m.jsonl", records)]).axes[0].get_ylim()
    assert low < 1
    assert 2 < high < 3


def test_nothing_recorded_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="recorded"):
        training.training_figure([write(tmp_path / "m.jsonl", [])])
    with pytest.raises(UsageError, match="recorded"):
        training.training_figure([])


def test_running_mean_keeps_gaps_and_averages_neighbours():
    values = np.arange(100.0)
    values[50] = np.nan
    smooth = training.running_mean(values)
    assert np.isnan(smooth).sum() == 1
    assert smooth[20] == pytest.approx(20)  # the mean of 18 to 22
    assert smooth[51] == pytest.approx((49 + 51 + 52 + 53) / 4)
    assert smooth[0] == pytest.approx(1)
    np.testing.assert_array_equal(training.running_mean(np.array([3.0])), [3.0])

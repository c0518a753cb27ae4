"""The JSON form of results."""

import json

import numpy as np
import pytest

from dpvae_cli.foundation.results import (
    Result,
    RunResults,
    nonfinite_to_none,
    result_in,
    results_document,
)

NAN, INF = float("nan"), float("inf")


def result(**fields) -> Result:
    base = {"metric": "skl", "value": 0.2, "standard_error": 0.01, "unit": "nats"}
    return Result(**(base | {"samples": 5000, "seed": 0, "split": "train"} | fields))


def test_the_documented_form():
    run = RunResults("runs/a", "checkpoint.pt", "moons", (result(),), "ab12", 500)
    assert results_document([run]) == {
        "schema": 1,
        "runs": [
            {
                "run": "runs/a",
                "checkpoint": "checkpoint.pt",
                "checkpoint_digest": "ab12",
                "iteration": 500,
                "recipe": "moons",
                "results": [
                    {
                        "metric": "skl",
                        "value": 0.2,
                        "standard_error": 0.01,
                        "unit": "nats",
                        "samples": 5000,
                        "seed": 0,
                        "split": "train",
                        "weights": None,
                        "details": {},
                    }
                ],
            }
        ],
    }


@pytest.mark.parametrize("bad", [NAN, INF, -INF, np.float64("nan")])
def test_numbers_that_are_not_finite_become_null(bad):
    details = {"values": [1.0, bad, (bad, 2)], "deeper": {"value": bad, "name": "nan"}}
    bad_result = result(value=bad, standard_error=bad, details=details)
    run = RunResults("a", "b", "c", (bad_result,), "ab12", 500)
    text = json.dumps(results_document([run]), allow_nan=False)
    (read,) = json.loads(text)["runs"][0]["results"]
    assert read["value"] is None
    assert read["standard_error"] is None
    assert read["details"] == {
        "values": [1.0, None, [None, 2]],
        "deeper": {"value": None, "name": "nan"},
    }


def test_finite_values_are_kept():
    value = {"a": [1, 2.5, "x", None, True]}
    assert nonfinite_to_none(value) == value


def test_a_result_is_read_back_from_its_json():
    written = result(details={"null": {"value": 1.5}}, weights="w")
    assert result_in(json.loads(json.dumps(written.to_json()))) == written
    assert result_in(result(value=None, split=None).to_json()) == result(value=None, split=None)


@pytest.mark.parametrize(
    "damage",
    [{"value": "x"}, {"samples": None}, {"samples": 1e400}, {"details": []}, {"value": [1]}],
)
def test_what_is_no_result_is_none(damage):
    assert result_in(result().to_json() | damage) is None
    assert result_in({"metric": "fid"}) is None
    assert result_in([1]) is None

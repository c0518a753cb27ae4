"""The JSON form of results."""

import json

import numpy as np
import pytest

from dpvae_cli.foundation.results import Result, RunResults, results_document, validate_results
from dpvae_cli.foundation.text import nonfinite_to_none

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
    assert Result.model_validate(json.loads(json.dumps(written.to_json()))) == written
    unknown = result(value=None, split=None)
    assert Result.model_validate(unknown.to_json()) == unknown
    assert Result.model_validate(result(metric="a\n\x1bb").to_json()).metric == "a b"


@pytest.mark.parametrize(
    "damage",
    [{"value": "x"}, {"samples": None}, {"samples": 1e400}, {"details": []}, {"value": [1]}],
)
def test_what_is_not_a_result_is_left_out(damage):
    good = result().to_json()
    assert validate_results([good | damage, {"metric": "fid"}, [1], good]) == (result(),)
    assert validate_results({"metric": "fid"}) == ()

"""The table of repaired VAEs is what the example's records say."""

import json
import sys

from benchmarks import repair_table


def records(skl, leak):
    """Return results as the example keeps them, with as much as the table reads."""
    halves = {"kl_prior_to_posterior": {"value": skl / 4}, "kl_posterior_to_prior": {"value": skl}}
    return [
        {"metric": "skl", "value": skl, "details": halves},
        {"metric": "leak", "value": leak, "details": {"quantile_values": [None, leak, leak, leak]}},
    ]


def test_means_and_errors_over_seeds(tmp_path, monkeypatch, capsys):
    for seed, skl in zip(repair_table.SEEDS, (4.0, 8.0, 12.0), strict=True):
        found = {"standard_normal": records(skl, leak=0.5), "spline": records(skl / 10, leak=None)}
        (tmp_path / f"seed{seed}").mkdir()
        (tmp_path / f"seed{seed}" / "results.json").write_text(json.dumps(found), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["repair_table", "--folder", str(tmp_path)])
    repair_table.main()
    header, _, before, after = capsys.readouterr().out.splitlines()
    assert header.split("|")[1:4] == [" prior ", " sKL ", " KL[p, q] "]
    assert "manifold" not in header
    # the standard error of 4, 8, 12 is 4 / sqrt(3)
    assert before.startswith(
        "| standard_normal | 8.0 ± 2.3 | 2.00 ± 0.58 | 8.0 ± 2.3 | 0.500 ± 0.000 |"
    )
    assert after.endswith("| - | - | - |")

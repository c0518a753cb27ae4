"""Figure 4."""

import dataclasses

import numpy as np
import pytest

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.plotting import leakage, style
from tests.plotting.conftest import leak_document


def pair() -> list[leakage.LeakageCurve]:
    return [
        leakage.curve_from_metrics(leak_document(3.0), "a", prior="standard_normal"),
        leakage.curve_from_metrics(leak_document(0.5, 1), "a", prior="decoupled"),
    ]


QUANTILES = leakage.LeakageScores([0.01, 0.05], [None, None], [None, None])


def curve_of(levels, values, errors):
    """Return a curve whose scores at quantiles are not known."""
    return leakage.LeakageCurve(
        "a", "decoupled", leakage.LeakageScores(levels, values, errors), QUANTILES
    )


def with_values(curve, values, quantile_values=None):
    return dataclasses.replace(
        curve,
        at_thresholds=curve.at_thresholds._replace(values=values),
        at_quantiles=curve.at_quantiles._replace(
            values=quantile_values or curve.at_quantiles.values
        ),
    )


def heights(ax) -> list[np.ndarray]:
    return [np.asarray(container[0].get_ydata()) for container in ax.containers]


def test_curves_come_from_the_leak_result_alone():
    document = leak_document(3.0)
    document["results"].append({"metric": "leak_printed", "details": {}})
    curve = leakage.curve_from_metrics(document, "a", prior="decoupled")
    details = document["results"][1]["details"]
    assert curve.at_thresholds.levels == details["thresholds"]
    assert curve.at_thresholds.values == details["values"]
    assert curve.at_quantiles.levels == [0.001, 0.01, 0.05, 0.25]
    with pytest.raises(UsageError, match="is not a leakage record"):
        leakage.curve_from_metrics({"results": []}, "a", prior="decoupled")


def test_figure4_draws_both_panels(tmp_path):
    figure = leakage.figure4(pair())
    left, right = figure.axes
    assert len(left.containers) == len(right.containers) == 2
    one, other = pair()
    np.testing.assert_allclose(heights(left)[0], np.array(one.at_thresholds.values, dtype=float))
    np.testing.assert_allclose(heights(right)[1], other.at_quantiles.values)
    assert right.get_xscale() == "log"
    figure.draw_without_rendering()
    labels = [tick.get_text() for tick in right.get_xticklabels()]
    assert labels == ["0.1 %", "1 %", "5 %", "25 %"]
    for path in style.save(figure, tmp_path / "figure4"):
        assert path.stat().st_size > 5_000


def test_missing_values_leave_gaps(tmp_path):
    curve = curve_of([-9.0, -5.0, -3.0, -1.0], [None, 0.1, None, 0.3], [None, 0.01, None, None])
    figure = leakage.figure4([curve])
    ax = figure.axes[0]
    assert np.isnan(heights(ax)[0]).tolist() == [True, False, True, False]
    assert style.save(figure, tmp_path / "gaps.png")[0].stat().st_size > 5_000


def crosses(ax):
    """Return the abscissas of each curve's crosses, and check that they stand below all values."""
    found = [line for line in ax.get_lines() if line.get_marker() == "x"]
    lowest = min((np.nanmin(values) for values in heights(ax)), default=np.inf)
    for line in found:
        place = line.get_transform().transform(line.get_xydata())
        assert (ax.transData.inverted().transform(place)[:, 1] < lowest).all()
    return [line.get_xdata().tolist() for line in found]


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_a_cross_stands_where_there_is_no_leak(scale):
    one, other = pair()
    last = 90.0 if scale == "log" else 0.3
    other = with_values(other, [None, None, 0.1, 0.2, 0.2, 0.3, last], [None, 0.1, 0.2, 0.3])
    one = with_values(one, [0.2] * 7)
    figure = leakage.figure4([one, other])
    figure.draw_without_rendering()
    left, right = figure.axes
    assert left.get_yscale() == scale
    assert [line for line in crosses(left) if line] == [[-90.0, -70.0]]
    assert [line for line in crosses(right) if line] == [[0.001]]
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[2:] == ["no sample below the threshold: no leak"]
    assert len(leakage.figure4([one]).legends[0].get_texts()) == 1


def test_an_error_bar_down_to_zero_leaves_a_logarithmic_axis_alone():
    curve = curve_of([-5.0, -3.0, -1.0], [0.001, 0.1, 0.3], [0.001, 0.01, 0.01])
    ax = leakage.figure4([curve]).axes[0]
    assert ax.get_yscale() == "log"
    assert 1e-4 < ax.get_ylim()[0] < 0.001


def test_a_curve_without_any_value_is_drawn_empty(tmp_path):
    curve = curve_of([-9.0, -5.0], [None, None], [None, None])
    assert style.save(leakage.figure4([curve]), tmp_path / "empty.png")


def test_standard_normal_is_dashed_and_twins_differ_by_nothing_else():
    curves = [dataclasses.replace(c, label=f"{f}-{c.prior}") for f in "ab" for c in pair()]
    lines = [container[0] for container in leakage.figure4(curves).axes[0].containers]
    colours = [line.get_color() for line in lines]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert [line.get_linestyle() for line in lines] == ["--", "-", "--", "-"]


def test_scores_of_very_different_size_get_a_logarithmic_axis():
    small, large = pair()
    large = with_values(large, [900.0] * 7)
    assert leakage.figure4(pair()).axes[0].get_yscale() == "linear"
    assert leakage.figure4([small, large]).axes[0].get_yscale() == "log"
    below = with_values(small, [-0.1] * 7)
    assert leakage.figure4([below, large]).axes[0].get_yscale() == "linear"


def test_no_curve_says_which_metric_to_evaluate():
    with pytest.raises(UsageError) as caught:
        leakage.figure4([])
    assert "leak" in str(caught.value.hint)

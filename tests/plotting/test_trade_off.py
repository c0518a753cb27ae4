"""The trade-off of representation and sampling."""

import numpy as np
import pytest

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.plotting import style
from dpvae_cli.plotting.trade_off import Method, PlottedMetric, trade_off

MIG = PlottedMetric("mig", "MIG", lower_is_better=False)
PROBE = PlottedMetric("probe", "linear probe", lower_is_better=False)
SKL = PlottedMetric("skl", "sKL", lower_is_better=True, unit="nats")


def method(label, prior, mig, skl, **more):
    return Method(label, prior, {"mig": mig, "skl": skl, **more})


PAIRS = [
    method("vae", "standard_normal", [0.1, 0.3], [4.0, 6.0]),
    method("vae", "decoupled", [0.2, 0.2], [1.0, 1.0]),
    method("beta_h", "standard_normal", [0.5], [3.0]),
    method("beta_h", "decoupled", [0.4], [2.0]),
]


def draw(methods=PAIRS, representation=(MIG,), sampling=SKL):
    return trade_off(methods, representation=representation, sampling=sampling)


def marks(ax):
    """Return each mark's place, face and bars."""
    found = []
    for container in ax.containers:
        line, _, bars = container
        spans = [np.ptp(bar.get_segments()[0], axis=0).max() for bar in bars]
        place = (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
        found.append((place, line.get_markerfacecolor(), spans))
    return found


def test_a_mark_is_the_mean_over_seeds_with_its_error():
    (ax,) = draw().axes
    place, face, spans = marks(ax)[0]
    assert place == pytest.approx((0.2, 5.0))
    assert face == "white"
    assert spans == pytest.approx([2 * 0.1, 2 * 1.0])
    assert [spans for *_, spans in marks(ax)][2] == [0, 0]


def test_an_arrow_leads_from_each_method_to_its_twin():
    (ax,) = draw().axes
    arrows = [(text.xyann, text.xy) for text in ax.texts if text.arrow_patch is not None]
    assert arrows == [
        (pytest.approx((0.2, 5.0)), pytest.approx((0.2, 1.0))),
        (pytest.approx((0.5, 3.0)), pytest.approx((0.4, 2.0))),
    ]


def test_up_and_right_are_better():
    (ax,) = draw().axes
    assert ax.yaxis_inverted()
    assert not ax.xaxis_inverted()
    assert "better" in ax.get_title(loc="right")
    assert ax.get_ylabel() == "sKL, nats"
    assert ax.get_xlabel() == "MIG"
    (turned,) = draw(representation=[SKL], sampling=MIG).axes
    assert (turned.xaxis_inverted(), turned.yaxis_inverted()) == (True, False)


def test_panels_have_what_was_measured(tmp_path):
    some = [method("vae", "decoupled", [0.1], [1.0], probe=[0.7]), *PAIRS]
    figure = draw(some, representation=[MIG, PROBE])
    left, right = figure.axes
    assert (len(left.containers), len(right.containers)) == (5, 1)
    assert style.save(figure, tmp_path / "two.png")[0].stat().st_size > 10_000
    assert len(draw(some, representation=[MIG] * 4).axes) == 4


def test_values_that_spread_far_get_a_logarithmic_axis():
    assert draw().axes[0].get_yscale() == "linear"
    far = [*PAIRS, method("info", "standard_normal", [0.3], [90.0])]
    assert draw(far).axes[0].get_yscale() == "log"
    for most in (90.0, 7e11):
        figure = draw([*PAIRS, method("info", "standard_normal", [0.3], [most])])
        figure.draw_without_rendering()
        ax = figure.axes[0]
        low, high = sorted(ax.get_ylim())
        shown = [tick for tick in ax.get_yticks() if low <= tick <= high]
        assert 3 <= len(shown) <= 9
        assert all(label.get_text() for label in ax.get_yticklabels())
    below = [*far, method("info", "decoupled", [0.3], [-1.0])]
    assert draw(below).axes[0].get_yscale() == "linear"


def test_the_legend_names_methods_and_priors():
    (legend,) = draw().legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["vae", "beta_h", "standard normal", "decoupled"]


def test_nothing_measured_says_what_to_measure():
    with pytest.raises(UsageError) as caught:
        draw([Method("vae", "decoupled", {"skl": [1.0]})], representation=[MIG, PROBE])
    assert "mig, probe and skl" in caught.value.hint

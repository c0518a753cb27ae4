"""Table 1 as data: its shape, values typed a second time, and that the wheel has it."""

import pytest

from dpvae_cli.recipe.validation import kinds
from dpvae_cli.studies import published
from dpvae_cli.studies.published import DATA

TABLE = published.read_published("table1")


def test_every_row_column_and_data_set_is_there():
    assert len(TABLE.rows) == 12
    assert [column.metric for column in TABLE.columns] == ["fid", "fid_lp", "skl", "nll"]
    assert {(row.regularizer, row.prior) for row in TABLE.rows} == {
        (kind, prior) for kind in kinds("regularizer") for prior in ("standard_normal", "decoupled")
    }
    assert {len(getattr(row, data)) for row in TABLE.rows for data in DATA} == {4}
    assert TABLE.source["address"] == "https://arxiv.org/abs/1911.10506"


TYPED_AGAIN = [
    ("fid", "mnist", "vae", "standard_normal", 137.4),
    ("nll", "mnist", "vae", "decoupled", 3.53),
    ("fid_lp", "mnist", "factor", "standard_normal", 191.2),
    ("fid_lp", "mnist", "beta_tc", "standard_normal", 200.3),
    ("skl", "mnist", "info", "decoupled", 1.70),
    ("skl", "svhn", "vae", "standard_normal", 53.67),
    ("nll", "svhn", "beta_tc", "standard_normal", 9.86),
    ("nll", "svhn", "vae", "decoupled", 0.318),
    ("fid", "svhn", "beta_b", "decoupled", 51.1),
    ("fid_lp", "svhn", "factor", "standard_normal", 108.5),
    ("fid", "celeba", "factor", "decoupled", 65.0),
    ("fid_lp", "celeba", "vae", "standard_normal", 79.0),
    ("skl", "celeba", "beta_tc", "decoupled", 90.3),
    ("nll", "celeba", "beta_h", "decoupled", 10.6),
    ("nll", "celeba", "info", "standard_normal", 11.1),
    ("fid", "celeba", "beta_h", "decoupled", 67.2),
]


@pytest.mark.parametrize(("metric", "data", "regularizer", "prior", "value"), TYPED_AGAIN)
def test_values_typed_a_second_time(metric, data, regularizer, prior, value):
    assert TABLE.value(metric, data=data, regularizer=regularizer, prior=prior) == value


def test_sums_of_columns():
    """A slip of one digit anywhere shows here; the sums were added up from the printed table."""
    for data, sums in {
        "mnist": (1555.0, 1775.9, 24.79, 38.5),
        "svhn": (851.6, 893.7, 107.94, 25.043),
        "celeba": (901.1, 933.9, 545.2, 119.22),
    }.items():
        columns = zip(*(getattr(row, data) for row in TABLE.rows), strict=True)
        assert [sum(column) for column in columns] == pytest.approx(sums)


def test_seven_likelihoods_are_worse_with_the_decoupled_prior():
    """What the paper's text says of all data sets does not hold for this column."""
    worse = [
        (kind, data)
        for kind in kinds("regularizer")
        for data in DATA
        if TABLE.value("nll", data=data, regularizer=kind, prior="decoupled")
        > TABLE.value("nll", data=data, regularizer=kind, prior="standard_normal")
    ]
    assert len(worse) == 7


def test_nothing_is_made_up():
    assert TABLE.value("skl", data="moons", regularizer="vae", prior="decoupled") is None
    assert TABLE.value("manifold", data="mnist", regularizer="vae", prior="decoupled") is None
    assert TABLE.value("fid", data="mnist", regularizer="vae", prior="vamp") is None
    assert all(len(column.note) > 50 for column in TABLE.columns)
    assert {c.metric for c in TABLE.columns if c.comparable == "no"} == {"fid_lp", "nll"}

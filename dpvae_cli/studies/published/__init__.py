"""Published numbers to put beside ours, as data with their source, and what compares."""

from functools import cache
from pathlib import Path
from typing import Annotated, Literal, final

import yaml
from pydantic import Field

from dpvae_cli.foundation.spec import FROM_LIST, Spec

FOLDER = Path(__file__).parent
NumberList = Annotated[tuple[float, ...], FROM_LIST]
DATA = ("mnist", "svhn", "celeba")


@final
class PublishedColumn(Spec):
    """A published column, our metric that is nearest to it, and whether the two compare."""

    metric: str
    title: str
    comparable: Literal["yes", "direction", "no"]
    """Whether values compare, only which prior is better, or nothing."""
    note: str


@final
class PublishedRow(Spec):
    """A method's values on each data set, in the order of the columns."""

    method: str
    regularizer: str
    prior: str
    mnist: NumberList
    svhn: NumberList
    celeba: NumberList


@final
class PublishedTable(Spec):
    """A published table; its source has authors, title, year, place, address and table."""

    source: dict[str, str | int]
    columns: Annotated[tuple[PublishedColumn, ...], FROM_LIST]
    rows: Annotated[tuple[PublishedRow, ...], FROM_LIST, Field(min_length=1)]

    def value(self, metric: str, *, data: str, regularizer: str, prior: str) -> float | None:
        """Return the published number nearest to a metric of a run, None where there is none."""
        metrics = [column.metric for column in self.columns]
        if metric not in metrics or data not in DATA:
            return None
        for row in self.rows:
            if (row.regularizer, row.prior) == (regularizer, prior):
                return float(getattr(row, data)[metrics.index(metric)])
        return None


def published_names() -> list[str]:
    """Return the names of the published tables."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


@cache
def read_published(name: str) -> PublishedTable:
    """Return a published table.

    Example:
        >>> table = read_published("table1")
        >>> table.value("fid", data="mnist", regularizer="vae", prior="decoupled")
        129.0
    """
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    return PublishedTable.model_validate(yaml.safe_load(text))

"""scikit-learn's classifiers on codes, with the settings that scores and probes take."""

import warnings
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dpvae_cli.foundation.shapes import Codes, OtherCodes

TREES = 10
"""Of a forest, as many as in Eastwood and Williams's code."""
DEPTHS = [2, 3, 4, 6, 8, 12]
"""Of a tree, of which cross-validation in three folds takes one."""
FOLDS = 3
STEPS = 1_000

Values = Int[Tensor, " batch"]


class Forest(NamedTuple):
    """How much each dimension matters, summing to one; the share of held-out values it is right of.

    `depth` is the one that cross-validation took.
    """

    importance: Float[Tensor, " latent"]
    accuracy: float
    depth: int


def forest(
    codes: Codes,
    values: Values,
    *,
    held_out: OtherCodes,
    expected: Int[Tensor, " others"],
    seed: int,
) -> Forest:
    """Fit a random forest that tells a factor's value from codes, all dimensions at every split.

    The depth of its trees is the one of the best accuracy in cross-validation on `codes`; of equal
    ones the smallest. Trees grown in full put noise into the importances.

    Source: Eastwood and Williams 2018, section 4.
    """
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415 - slow to import
    from sklearn.model_selection import GridSearchCV, KFold  # noqa: PLC0415

    x, y = _standardised(codes, held_out)
    trees = RandomForestClassifier(TREES, max_features=None, random_state=seed)
    search = GridSearchCV(trees, {"max_depth": DEPTHS}, cv=KFold(FOLDS))
    fitted = search.fit(x, values.numpy()).best_estimator_
    right = fitted.predict(y) == expected.numpy()
    importance = torch.from_numpy(fitted.feature_importances_)
    return Forest(importance, float(right.mean()), fitted.max_depth)


def thresholds_accuracy(code: Float[Tensor, " batch"], values: Values) -> float:
    """Return the balanced accuracy of cuts along one dimension, one part for each value.

    The cuts are those of a decision tree, fitted to the same examples, each value weighing alike.

    Source: Kumar et al. 2018, section 3, which says thresholds and not how they are found.
    """
    from sklearn.tree import DecisionTreeClassifier  # noqa: PLC0415 - slow to import

    parts = len(torch.unique(values))
    tree = DecisionTreeClassifier(max_leaf_nodes=parts, class_weight="balanced", random_state=0)
    (x, _), y = _standardised(code.unsqueeze(1), code.unsqueeze(1)), values.numpy()
    right = tree.fit(x, y).predict(x) == y
    return float(np.mean([right[y == value].mean() for value in np.unique(y)]))


def linear(codes: Codes, values: Values, *, others: OtherCodes) -> Int[Tensor, " others"]:
    """Return what a logistic regression on `codes` says of `others`; both are standardised."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - slow to import
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    x, y = _standardised(codes, others)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # as good as it gets in so many steps
        fitted = LogisticRegression(max_iter=STEPS).fit(x, values.numpy())
    return torch.from_numpy(fitted.predict(y))


def nearest(
    codes: Codes, values: Values, *, others: OtherCodes, neighbours: int
) -> Int[Tensor, " others"]:
    """Return what the nearest of `codes` say of each of `others`; both are standardised."""
    from sklearn.neighbors import KNeighborsClassifier  # noqa: PLC0415 - slow to import

    x, y = _standardised(codes, others)
    fitted = KNeighborsClassifier(min(neighbours, len(x))).fit(x, values.numpy())
    return torch.from_numpy(fitted.predict(y))


def _standardised(codes: Codes, others: OtherCodes) -> tuple[np.ndarray, np.ndarray]:
    """Give each dimension of `codes` mean 0 and deviation 1: the scale of z may be free."""
    spread, mean = torch.std_mean(codes, dim=0, correction=0)
    spread = torch.where(spread > 0, spread, torch.ones_like(spread))
    return ((codes - mean) / spread).numpy(), ((others - mean) / spread).numpy()

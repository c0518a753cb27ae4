"""scikit-learn's classifiers on codes, with the settings that scores and probes take."""

import warnings
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dpvae_cli.foundation.shapes import Codes, OtherCodes

TREES = 10
"""Of a forest, as many as in Eastwood and Williams's code."""
DEPTHS = [12, 8, 6, 4, 3, 2]
"""Of trees, of which cross-validation takes the best, of equal ones the first."""
FOLDS = 3
STEPS = 1_000
TEST_FOLDS = 5
MIN_TO_STOP_EARLY = 500
"""Rows of which a tenth says when boosting is to stop."""

ClassLabels = Int[Tensor, " batch"]


class Forest(NamedTuple):
    """How much each dimension matters, summing to one, and which held-out values are right."""

    importance: Float[Tensor, " latent"]
    accuracy: float


def forest(
    codes: Codes,
    values: ClassLabels,
    *,
    held_out: OtherCodes,
    expected: Int[Tensor, " others"],
    seed: int,
) -> Forest:
    """Fit a random forest that predicts a factor from codes, all dimensions at every split.

    The depth is the one at which a single tree has the best accuracy in cross-validation on
    `codes`: nearly that of forests, in a fifth of the time. Trees grown in full put noise into the
    importances.

    Source: Eastwood and Williams 2018, section 4.
    """
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415 - slow to import
    from sklearn.model_selection import GridSearchCV, KFold  # noqa: PLC0415
    from sklearn.tree import DecisionTreeClassifier  # noqa: PLC0415

    x, y = _standardise(codes, held_out)
    tree = DecisionTreeClassifier(random_state=seed)
    search = GridSearchCV(tree, {"max_depth": DEPTHS}, cv=KFold(FOLDS), refit=False)
    depth = search.fit(x, values.numpy()).best_params_["max_depth"]
    fitted = RandomForestClassifier(TREES, max_features=None, max_depth=depth, random_state=seed)
    right = fitted.fit(x, values.numpy()).predict(y) == expected.numpy()
    return Forest(torch.from_numpy(fitted.feature_importances_), float(right.mean()))


def thresholds_accuracy(code: Float[Tensor, " batch"], values: ClassLabels) -> float:
    """Return the balanced accuracy of cuts along one dimension, one part for each value.

    The cuts are those of a decision tree, fitted to the same examples, each value weighing alike.

    Source: Kumar et al. 2018, section 3, which says thresholds and not how they are found.
    """
    from sklearn.tree import DecisionTreeClassifier  # noqa: PLC0415 - slow to import

    parts = len(torch.unique(values))
    tree = DecisionTreeClassifier(max_leaf_nodes=parts, class_weight="balanced", random_state=0)
    (x, _), y = _standardise(code.unsqueeze(1), code.unsqueeze(1)), values.numpy()
    right = tree.fit(x, y).predict(x) == y
    return float(np.mean([right[y == value].mean() for value in np.unique(y)]))


def linear(codes: Codes, values: ClassLabels, *, others: OtherCodes) -> Int[Tensor, " others"]:
    """Return what a logistic regression on `codes` says of `others`; both are standardised."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - slow to import
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    x, y = _standardise(codes, others)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the limit of steps is intended
        fitted = LogisticRegression(max_iter=STEPS).fit(x, values.numpy())
    return torch.from_numpy(fitted.predict(y))


def nearest(
    codes: Codes, values: ClassLabels, *, others: OtherCodes, neighbours: int
) -> Int[Tensor, " others"]:
    """Return what the nearest of `codes` say of each of `others`; both are standardised."""
    from sklearn.neighbors import KNeighborsClassifier  # noqa: PLC0415 - slow to import

    x, y = _standardise(codes, others)
    fitted = KNeighborsClassifier(min(neighbours, len(x))).fit(x, values.numpy())
    return torch.from_numpy(fitted.predict(y))


def are_told_apart(first: Codes, second: Codes, *, seed: int) -> Bool[Tensor, "sets batch"]:
    """Return which rows of two sets a classifier assigns to their own set, in cross-validation.

    Gradient-boosted trees: as good as neural networks on planted pockets in two dimensions and
    better in eight, in a fifth of the time.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415 - slow to import
    from sklearn.model_selection import StratifiedKFold, cross_val_predict  # noqa: PLC0415

    x = torch.cat([first, second]).numpy()
    is_second = np.arange(len(x)) >= len(first)
    trees = HistGradientBoostingClassifier(
        early_stopping=len(x) >= MIN_TO_STOP_EARLY, random_state=seed % 2**32
    )
    folds = StratifiedKFold(TEST_FOLDS, shuffle=True, random_state=seed % 2**32)
    predicted = cross_val_predict(trees, x, is_second, cv=folds)
    return torch.from_numpy(predicted == is_second).view(2, -1)


def _standardise(codes: Codes, others: OtherCodes) -> tuple[np.ndarray, np.ndarray]:
    """Give each dimension of `codes` mean 0 and deviation 1: the scale of z may be free."""
    spread, mean = torch.std_mean(codes, dim=0, correction=0)
    spread = torch.where(spread > 0, spread, torch.ones_like(spread))
    return ((codes - mean) / spread).numpy(), ((others - mean) / spread).numpy()

"""The names that people give to splits, and to the arrays of a file."""

import re

from dpvae_cli.data.dataset import SplitName

SPLIT_OF: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""The split that a folder or an array of this name, in any case, is."""
LABELS = frozenset(
    ("y", "label", "labels", "target", "targets", "class", "classes", "category", "categories")
)
EXAMPLES = frozenset(
    ("x", "data", "image", "images", "imgs", "img", "examples", "features", "samples", "inputs")
)


def split_for_name(name: str) -> SplitName | None:
    """Return the split that a name stands for, or None."""
    return SPLIT_OF.get(name.lower())


def split_in_name(name: str) -> SplitName | None:
    """Return the split that a name speaks of, as val2017 and images_test do, or None."""
    return next((SPLIT_OF[word] for word in _words(name) if word in SPLIT_OF), None)


def guess_key(name: str) -> str | None:
    """Return the key of `data: arrays` that an array of another name was probably meant for.

    Example:
        >>> [guess_key(name) for name in ("y", "x_train", "testLabels", "columns")]
        ['labels', 'train', 'test_labels', None]
    """
    words, split = _words(name), split_in_name(name)
    if LABELS & set(words):
        return "labels" if split is None else f"{split}_labels"
    return split or ("x" if EXAMPLES & set(words) else None)


def _words(name: str) -> list[str]:
    """Return the runs of letters of a name, cut where camelCase has a capital, in lower case."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]

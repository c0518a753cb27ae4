"""Sample tables of numbers: fit a prior to the codes of a scikit-learn transformer.

  python examples/sklearn_arrays.py

Every transformer with `inverse_transform` has codes and a decoder. Whitened principal components
have mean 0 and variance 1, so one is tempted to draw codes from N(0, I). A classifier tells those
rows from real ones; rows of a fitted prior are harder to tell.
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import dpvae_cli as dpvae


def separability(real: np.ndarray, sampled: np.ndarray) -> float:
    """Return the cross-validated accuracy of telling sampled rows from real ones; 0.5 is best."""
    rows = np.concatenate([real, sampled])
    is_real = np.arange(len(rows)) < len(real)
    classifier = HistGradientBoostingClassifier(max_iter=30, random_state=0)
    return float(cross_val_score(classifier, rows, is_real, cv=3).mean())


def main() -> None:
    """Transform, fit, sample and compare."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--components", type=int, default=8, help="of the codes")
    parser.add_argument("--fit", type=int, default=2_000, help="maximum steps of the fit")
    parser.add_argument("--prior", default="mixture")
    args = parser.parse_args()

    x = load_digits().data
    model = make_pipeline(StandardScaler(), PCA(args.components, whiten=True, random_state=0))
    codes = model.fit_transform(x)
    fitted = dpvae.fit_prior(codes, prior=args.prior, fitting=dpvae.Fitting(iterations=args.fit))

    reconstructed = model.inverse_transform(codes)
    normal = np.random.default_rng(0).standard_normal(codes.shape)
    drawn = {"N(0, I)": normal, fitted.record.prior: fitted.sample(len(x)).double().numpy()}
    print("accuracy of a classifier of sampled against reconstructed rows; 0.5 is best")
    for name, z in drawn.items():
        print(f"{name:12}{separability(reconstructed, model.inverse_transform(z)):.3f}")


if __name__ == "__main__":
    main()

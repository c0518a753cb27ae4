"""Names for tensor shapes; jaxtyping and beartype check them under pytest, elsewhere they are free.

`batch` counts examples, `latent` is L, `example` is the shape of one example, `components` is N.
"""

from jaxtyping import Float, Int, Shaped
from torch import Tensor

Codes = Float[Tensor, "batch latent"]
"""Points of the representation space z or of the generation space z0, one a row."""

OtherCodes = Float[Tensor, "others latent"]
"""A second set of codes, whose number is its own."""

Examples = Float[Tensor, "batch *example"]
"""Examples as the model sees them, one a row."""

PerExample = Float[Tensor, " batch"]
CodeLabels = Int[Tensor, " batch"]
"""One number for each example, in nats where it is a log-density or a loss term."""

Scalar = Float[Tensor, ""]
"""A single number."""

Components = Float[Tensor, "components latent"]
"""Parameters of the N components of a mixture."""

Indices = Int[Tensor, " batch"]
"""Positions in a data set."""

StoredExamples = Shaped[Tensor, "count *example"]
"""Examples as they are stored: uint8 for images, float32 otherwise."""

FactorValues = Int[Tensor, "count factors"]
"""The value of each factor of variation, counted from 0, an example a row."""

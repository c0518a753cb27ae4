"""Binary masks b_k of coupling blocks: 1 marks a dimension that conditions, 0 a transformed one.

Source: paper, equation (3) and Figure 9.
"""

from collections.abc import Sequence

Mask = tuple[int, ...]


def alternating(blocks: int, latent_dim: int) -> tuple[Mask, ...]:
    """Return checkerboard masks: even dimensions condition in one block, odd ones in the next."""
    return tuple(tuple((l + k + 1) % 2 for l in range(latent_dim)) for k in range(blocks))


def halves(blocks: int, latent_dim: int) -> tuple[Mask, ...]:
    """Return masks whose first half conditions in one block and the second half in the next."""
    cut = latent_dim // 2
    return tuple(
        tuple(int((l < cut) == (k % 2 == 0)) for l in range(latent_dim)) for k in range(blocks)
    )


def untransformed(masks: Sequence[Mask]) -> list[int]:
    """Return the dimensions that no block transforms; g would leave them as they are."""
    return [l for l in range(len(masks[0])) if all(mask[l] == 1 for mask in masks)]

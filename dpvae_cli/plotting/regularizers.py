"""Figure 3: one block a regularizer, twins side by side."""

from collections.abc import Sequence
from itertools import zip_longest

from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure

from dpvae_cli.plotting import moons, style
from dpvae_cli.plotting.moons import PlanarModel

Pair = tuple[PlanarModel | None, PlanarModel | None]
_SIZE = 1.5
_WIDE = 1 / 0.7  # data panels, width over height


@style.house_style()
def figure3(models: Sequence[PlanarModel]) -> Figure:
    """Draw (a) samples, (b) log q(z), (c) generation space and data with marks, a block each run.

    Twins stand side by side and share the axes of the data space and of z; pairs have their own.
    The generation space of a standard normal prior is its representation space and is not shown
    twice.

    Source: Figure 3.

    Raises:
        UsageError: there is no model.
    """
    pairs = twins(moons.require(models))
    sides = [side for side in (0, 1) if any(pair[side] for pair in pairs)]
    units = [_units(side) for side in sides]
    panel = (style.DOUBLE_COLUMN - 0.5) / sum(_units(0) + _units(1))
    width = sum(sum(ratios) * panel + 0.25 for ratios in units)
    figure = style.new_figure(width, (panel + 0.38) * len(pairs) + 0.1)
    blocks = figure.subfigures(
        len(pairs), len(sides), squeeze=False, width_ratios=list(map(sum, units)), wspace=0.02
    )
    norm = moons.density_norm(models)
    for row, pair in zip(blocks, pairs, strict=True):
        left, right, bottom, top = moons.common_data_limits(
            [model for model in pair if model is not None]
        )
        if style.aspect(left, right, bottom, top) == "equal":  # in the panels' own proportion
            room = max(0.0, _WIDE * (top - bottom) - (right - left)) / 2
            left, right = left - room, right + room
        limits = left, right, bottom, top
        drawn = [
            _draw_block(block, model, ratios=_units(side), norm=norm, limits=limits)
            for block, side in zip(row, sides, strict=True)
            if (model := pair[side]) is not None
        ]
        style.share_square(axes[1] for axes in drawn)
    style.legend_below(figure, [*moons.handles(), style.mark_handle()])
    return figure


def twins(models: Sequence[PlanarModel]) -> list[Pair]:
    """Return rows of (standard normal, other prior), runs of one family in one row."""
    families: dict[str, tuple[list[PlanarModel], list[PlanarModel]]] = {}
    for model in models:
        name = style.family(model.label, model.prior)
        side = int(model.prior != style.STANDARD_NORMAL)
        families.setdefault(name, ([], []))[side].append(model)
    return [pair for left, right in families.values() for pair in zip_longest(left, right)]


def _units(side: int) -> list[float]:
    """Return the widths of a block's panels in units of a latent panel's."""
    return [_WIDE, 1.0, _WIDE] if side == 0 else [_WIDE, 1.0, 1.0, _WIDE]


def _draw_block(
    block: SubFigure,
    model: PlanarModel,
    *,
    ratios: list[float],
    norm: Normalize,
    limits: tuple[float, ...],
) -> list[Axes]:
    axes = list(block.subplots(1, len(ratios), width_ratios=ratios))
    moons.draw_samples(axes[0], model, norm=norm)
    moons.draw_posterior(axes[1], model, size=_SIZE)
    style.marks(axes[1], model.arrays["high_z"])
    if len(axes) == 4:
        moons.draw_generation(axes[2], model, size=_SIZE)
        style.marks(axes[2], model.arrays["high_z0"])
        style.widen(axes[2], model.arrays["high_z0"])
    moons.draw_data(axes[-1], model, size=_SIZE)
    style.marks(axes[-1], model.arrays["high_x"])
    for ax in (axes[0], axes[-1]):
        moons.show_data(ax, limits)
    names = ["(a) samples", "(b) $\\log\\,q(z)$", "(c) $z_0$", "(c) data"]
    if len(axes) == 3:
        del names[2]
    for ax, name in zip(axes, names, strict=True):
        style.hide_ticks(ax)
        ax.set_anchor("N")
        ax.set_xlabel(name, fontsize=7)
    title = style.name(model.label, model.prior, title=model.title)
    colour = style.prior_colour(model.prior)
    block.suptitle(title, x=0.01, ha="left", color=colour, fontsize=8)
    return axes

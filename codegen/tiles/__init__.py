"""Operations on tiles, called by generated Triton kernels.

A tile is a float32 tensor in registers, [C], [C, X] or [C, C] for the positions of one chunk; its extents are powers
of two, and its lanes beyond the data are zero. Every function is `triton.jit`, takes tiles and gives tiles.
Parameters in capitals are compile-time constants; OPERAND and PRECISION are the dtype of the operands of a matrix
product and its `input_precision`.
"""

from maskdsl.codegen.tiles.decays import decay_dot, decay_dots
from maskdsl.codegen.tiles.decays_adjoint import decay_dot_adjoint
from maskdsl.codegen.tiles.inverse import inverse
from maskdsl.codegen.tiles.levels import level_column, level_of, pair_weights, place_column, select, select_adjoint
from maskdsl.codegen.tiles.pairs import near, tril
from maskdsl.codegen.tiles.pairs_adjoint import pair_weights_adjoint
from maskdsl.codegen.tiles.positions import count_levels, held_levels, lowest_level, reach, slot_levels
from maskdsl.codegen.tiles.products import dot
from maskdsl.codegen.tiles.remembered import all_met_at, apart_at, first_at, met_at
from maskdsl.codegen.tiles.scalars import exp, narrow_exp, softplus
from maskdsl.codegen.tiles.sequences import blank, places, resumed_places, sequence_of
from maskdsl.codegen.tiles.spans import spans, spans_adjoint
from maskdsl.codegen.tiles.sums import cumsum, folded

__all__ = [
    "all_met_at",
    "apart_at",
    "blank",
    "count_levels",
    "cumsum",
    "decay_dot",
    "decay_dot_adjoint",
    "decay_dots",
    "dot",
    "exp",
    "first_at",
    "folded",
    "held_levels",
    "inverse",
    "level_column",
    "level_of",
    "lowest_level",
    "met_at",
    "narrow_exp",
    "near",
    "pair_weights",
    "pair_weights_adjoint",
    "place_column",
    "places",
    "reach",
    "resumed_places",
    "select",
    "select_adjoint",
    "sequence_of",
    "slot_levels",
    "softplus",
    "spans",
    "spans_adjoint",
    "tril",
]

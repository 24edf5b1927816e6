"""What generated PyTorch programs call: the operations of the chunk IR that PyTorch lacks.

Tensors at chunk level are [B, h, N, C] or [B, h, N, rows, columns]. Each function has the meaning that
`maskdsl.chunk.ops` gives its operation. Loops run over lags, levels and chunks, never over positions; nothing here is
differentiated by autograd. Those of laid-out programs begin with the slots that their tensors stand in.
"""

from maskdsl.codegen.torch_ops.band import band, band_adjoint
from maskdsl.codegen.torch_ops.decays import decay_dot, decay_dot_adjoint
from maskdsl.codegen.torch_ops.inside import cumsum, inverse, select, select_adjoint, spans, spans_adjoint
from maskdsl.codegen.torch_ops.layout import chunk, place, shift, unchunk
from maskdsl.codegen.torch_ops.relay import relay, relay_adjoint
from maskdsl.codegen.torch_ops.scan import scan, solved_scan
from maskdsl.codegen.torch_ops.slide import slide, slide_adjoint
from maskdsl.codegen.torch_ops.slots import lay, unlay
from maskdsl.codegen.torch_ops.step import enter, regroup, select_slots
from maskdsl.codegen.torch_ops.tree import tree, tree_adjoint
from maskdsl.codegen.torch_ops.walk import walk, walk_adjoint

__all__ = [
    "band",
    "band_adjoint",
    "chunk",
    "cumsum",
    "decay_dot",
    "decay_dot_adjoint",
    "enter",
    "inverse",
    "lay",
    "place",
    "regroup",
    "relay",
    "relay_adjoint",
    "scan",
    "select",
    "select_adjoint",
    "select_slots",
    "shift",
    "slide",
    "slide_adjoint",
    "solved_scan",
    "spans",
    "spans_adjoint",
    "tree",
    "tree_adjoint",
    "unchunk",
    "unlay",
    "walk",
    "walk_adjoint",
]

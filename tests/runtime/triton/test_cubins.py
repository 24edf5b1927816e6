"""What CI knows of the kernels without a GPU: they compile, fit their targets and do not spill beyond a table.

Every library definition with kernels, in bfloat16 at two shapes, forward and backward: all kernels for sm_90, and for
sm_80, sm_100 and gfx942 those of EVERYWHERE, which together hold every operation that kernels are printed for. Float32
and float16 for two definitions on sm_90, and float32 for one on gfx942, whose products have another precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from compilation import library_spec

from maskdsl import library
from maskdsl.chunk.ops import Operation
from maskdsl.mask.nodes import Kind
from maskdsl.runtime.arguments import needed_levels
from maskdsl.runtime.sampling import Shape
from maskdsl.runtime.triton.offline import Kernels
from maskdsl.runtime.triton.targets import TARGETS, Resources, excesses
from maskdsl.schedule.configuration import Configuration, Mode
from maskdsl.schedule.plan import plan
from maskdsl.schedule.unsupported import Unsupported
from maskdsl.spec import Spec

LENGTH = 4096

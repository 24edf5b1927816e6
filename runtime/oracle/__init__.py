"""Two independent meanings of a spec: `dense` from the definition, `recurrent` token by token."""

from maskdsl.runtime.oracle.dense import dense
from maskdsl.runtime.oracle.recurrent import recurrent

__all__ = ["dense", "recurrent"]

"""Two independent meanings of a spec: `dense` from the definition, `recurrent` token by token."""

from maskdsl.runtime.oracle.dense import dense
from maskdsl.runtime.oracle.recurrent import recurrent, recurrent_with_state

__all__ = ["dense", "recurrent", "recurrent_with_state"]

"""First calls that find nothing compiled before."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

CACHES = ("MASKDSL_CACHE", "TRITON_CACHE_DIR")


@contextmanager
def fresh_caches() -> Iterator[None]:
    """Generated programs and compiled kernels go to a folder of this block; the user's own caches are not touched."""
    before = {name: os.environ.get(name) for name in CACHES}
    with tempfile.TemporaryDirectory(prefix="maskdsl-bench-", ignore_cleanup_errors=True) as folder:
        os.environ.update({name: os.path.join(folder, name.lower()) for name in CACHES})
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

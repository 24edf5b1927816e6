"""Exact float32: the user's settings for faster, coarser products hold everywhere but in generated programs."""

from __future__ import annotations

import operator
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_SETTINGS = operator.attrgetter("cuda.matmul", "mkldnn.matmul")(torch.backends)
_lock = threading.Lock()
_running = 0
_chosen: tuple[str, ...] = ()


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Neither autocast nor TF32 or bf16 products inside.

    The settings belong to the process: the first of several threads to enter sets them, and the last to leave gives the
    user's back.
    """
    _enter()
    try:
        with torch.autocast(device_type=device.type, enabled=False):
            yield
    finally:
        _leave()


def _enter() -> None:
    global _running, _chosen
    with _lock:
        if _running == 0:
            _chosen = tuple(each.fp32_precision for each in _SETTINGS)
            _set(("ieee",) * len(_SETTINGS))
        _running += 1


def _leave() -> None:
    global _running
    with _lock:
        _running -= 1
        if _running == 0:
            _set(_chosen)


def _set(precisions: tuple[str, ...]) -> None:
    for each, precision in zip(_SETTINGS, precisions, strict=True):
        if each.fp32_precision != precision:
            each.fp32_precision = precision

"""Launches to compiled kernels: every kernel that a call needs is compiled before it runs, all of them in parallel."""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import triton
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import create_function_from_signature

from maskdsl.runtime.cache import directory
from maskdsl.runtime.triton.call import Launch

ATTEMPTS = 6
"""How often a kernel is compiled where Python's parser fails it by accident."""

PATIENCE = 2.0
"""Seconds of compiling after which a terminal sees a progress bar."""


@dataclass(frozen=True)
class Source:
    """A kernel specialised for the arguments of a launch, ready to be compiled; equal sources make equal kernels."""

    name: str
    file: str
    key: str
    source: ASTSource
    options: dict[str, Any]


class _Pointer:
    """A tensor as Triton specialises on it: its dtype, and whether it starts at a multiple of 16 bytes.

    Memory of torch does; what matters is where in it a view starts.
    """

    def __init__(self, x: Tensor) -> None:
        self.dtype = x.dtype
        self._offset = int(x.storage_offset()) * x.element_size()

    def data_ptr(self) -> int:
        return self._offset


def specialised(launch: Launch, target: GPUTarget) -> Source:
    """The kernel of a recorded launch, specialised for a target."""
    kernel = launch.kernel
    backend, bind = _binder(kernel, target)
    args = [_Pointer(x) if isinstance(x, Tensor) else x for x in launch.args]
    bound, specialization, _ = bind(*args)
    chosen = {"num_warps": launch.warps, "num_stages": launch.stages, "debug": False, "enable_fp_fusion": True}
    if launch.registers and target.backend == "cuda":
        chosen["maxnreg"] = launch.registers
    options, signature, constants, attributes = kernel._pack_args(backend, chosen, bound, specialization, None)
    key = f"{kernel.cache_key} {specialization} {options.hash()}"
    source = ASTSource(kernel, signature, constants, attributes)
    return Source(kernel.__name__, kernel.fn.__code__.co_filename, key, source, options.__dict__)


@functools.lru_cache(maxsize=1024)
def _binder(kernel: Any, target: GPUTarget) -> tuple[Any, Any]:
    backend = make_backend(target)
    return backend, create_function_from_signature(kernel.signature, kernel.params, backend)


def compiled(sources: Sequence[Source], target: GPUTarget, shared: int) -> list[Any]:
    """The compiled kernels, in order; equal sources are compiled once.

    In one that wants more than the `shared` bytes of shared memory that a program may use, loads run less far ahead, in
    one that Triton fails at (3.6 does at some loops that hold products and conditions) not at all.

    Raises RuntimeError naming the kernel and its file where one does not compile.
    """
    distinct = {source.key: source for source in sources}
    with _own_cache(), ThreadPoolExecutor(min(len(distinct), os.cpu_count() or 1) or 1) as pool:
        futures = {key: pool.submit(_fitting, source, target, shared) for key, source in distinct.items()}
        _watch(list(futures.values()))
        return [futures[source.key].result() for source in sources]


def _fitting(source: Source, target: GPUTarget, shared: int) -> Any:
    with suppress(RuntimeError):
        for stages in range(source.options["num_stages"], 1, -1):
            kernel = _compile(_ahead(source, stages), target)
            if kernel.metadata.shared <= shared:
                return kernel
    return _compile(_ahead(source, 1), target)


def _ahead(source: Source, stages: int) -> Source:
    """A kernel whose loads run so many steps of a loop ahead, less one."""
    return dataclasses.replace(source, options={**source.options, "num_stages": stages})


def _compile(source: Source, target: GPUTarget) -> Any:
    for left in reversed(range(ATTEMPTS)):
        try:
            return triton.compile(source.source, target=target, options=source.options)
        except Exception as error:
            if not left or not _torn(error):
                raise RuntimeError(f"Kernel '{source.name}' of '{source.file}' does not compile: {error}") from error
    raise AssertionError("The last attempt returns or raises.")


def _torn(error: BaseException | None) -> bool:
    """Whether Python lost count of its own depth while several threads parsed source, which says nothing of the source.

    CPython keeps that count for a whole process ("AST constructor recursion depth mismatch").
    """
    told: list[BaseException] = []  # an error raised twice can be among its own causes
    while error is not None and error not in told:
        if isinstance(error, SystemError) and "recursion depth mismatch" in str(error):
            return True
        told.append(error)
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def _own_cache() -> Iterator[None]:
    """Triton's compiled kernels lie beside the generated source, unless TRITON_CACHE_DIR says where."""
    if os.environ.get("TRITON_CACHE_DIR"):
        yield
        return
    with triton.knobs.cache.scope():
        triton.knobs.cache.dir = str(directory() / "triton")
        yield


def _watch(futures: list[Future[Any]]) -> None:
    """Wait for all; a terminal sees how far they are if they take long."""
    _, pending = wait(futures, timeout=PATIENCE)
    if not pending:
        return
    columns = (TextColumn("compiling kernels"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    shown = Progress(*columns, console=Console(stderr=True), transient=True) if sys.stderr.isatty() else None
    with shown or nullcontext():
        task = shown.add_task("", total=len(futures)) if shown else None
        while pending:
            if shown is not None and task is not None:
                shown.update(task, completed=len(futures) - len(pending))
            _, pending = wait(pending, return_when=FIRST_COMPLETED)

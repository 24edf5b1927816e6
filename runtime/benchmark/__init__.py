"""Benchmarks: a compiled spec timed beside published operators, against what the device can do, and its errors."""

from maskdsl.runtime.benchmark.bench import Bench, Entry, compare, open_bench
from maskdsl.runtime.benchmark.errors import Probe, probe, relative
from maskdsl.runtime.benchmark.measure import Effort, Row
from maskdsl.runtime.benchmark.peers import PEERS
from maskdsl.runtime.benchmark.problem import DTYPES, Problem

__all__ = [
    "DTYPES",
    "PEERS",
    "Bench",
    "Effort",
    "Entry",
    "Probe",
    "Problem",
    "Row",
    "compare",
    "open_bench",
    "probe",
    "relative",
]

"""Property-based equivalence: the definition, the recurrence and the compiled programs, on random calls."""

from maskdsl.runtime.verification.compare import Case, Comparison, Mismatch, compare
from maskdsl.runtime.verification.verify import Check, Report, verify

__all__ = ["Case", "Check", "Comparison", "Mismatch", "Report", "compare", "verify"]

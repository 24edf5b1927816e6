"""Property-based equivalence: the definition, the recurrence and the compiled programs, on random calls."""

from maskdsl.runtime.verification.compare import Case, Comparison, Mismatch, Skipped, compare
from maskdsl.runtime.verification.verify import Check, Report, verify

__all__ = ["Case", "Check", "Comparison", "Mismatch", "Report", "Skipped", "compare", "verify"]

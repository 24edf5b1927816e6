"""The language: text to syntax tree to checked spec."""

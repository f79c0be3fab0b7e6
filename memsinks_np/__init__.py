"""Memorization sinks (Ghosal, Maini, Raghunathan, ICML 2025) in NumPy, with every gradient written by hand."""

__version__ = "0.1.0"

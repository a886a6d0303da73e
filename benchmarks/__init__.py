"""Benchmarks: one command each, JSON out. Run from the repository's root: ``python -m benchmarks.gemm``."""

"""Graph IR: immutable, hash-consed tensor operations."""

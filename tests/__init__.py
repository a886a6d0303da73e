"""Tests. The helpers of this package are ``tests.compare`` and ``tests.oracle``; fixtures are in conftest.py."""

"""Kernel IR: what both backends share. A kernel is one fused loop nest described by index expressions."""

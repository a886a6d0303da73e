"""Attention and its derivative as routines: one step each, over whole arrays. What the attributes mean: ``ops.attention``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .routine import Routine

MASKED = -0.7 * 3.4028234663852886e38  # what JAX and Keras put in place of a masked score


@dataclass(frozen=True)
class Attend(Routine):
    """softmax(scale q k^T + bias, masked) v. Reads q, k, v, then bias and mask where there are such; writes the result.

    Sizes: batch, queries, keys, heads, groups, offset. ``bias`` and ``mask``: which of (batch, heads, queries, keys) they have (the others are 1), or None.
    ``sees``: every query is known to see a key in front of the causal edge.
    """

    depth: int
    width: int
    scale: float
    causal: bool
    sees: bool
    empty: str
    soft_cap: float
    bias: tuple[bool, ...] | None
    mask: tuple[bool, ...] | None
    layouts: tuple[str, ...]

    @property
    def may_redo(self) -> bool:
        """Whether a query may turn out to see nothing where keys beyond the causal edge then count as well."""
        return self.causal and self.empty == "uniform" and (self.mask is not None or not self.sees)

    def compute(self, *reads: np.ndarray) -> tuple[np.ndarray, ...]:
        p, _, v = self._probabilities(*reads)
        return (self._back(np.matmul(p, v), 3, reads[0].dtype),)

    # -- NumPy, in float64

    def _plain(self, x: np.ndarray, i: int) -> np.ndarray:
        """[batch, heads, time, depth], repeated for every head of a group."""
        x = x.astype(np.float64)
        x = x if self.layouts[i] == "BHTD" else x.transpose(0, 2, 1, 3)
        heads = int(self.sizes[3])
        return x if x.shape[1] == heads else np.repeat(x, heads // x.shape[1], 1)

    def _back(self, x: np.ndarray, i: int, dtype: np.dtype) -> np.ndarray:
        groups = int(self.sizes[4])
        if i in (1, 2) and groups != x.shape[1]:
            x = x.reshape(x.shape[0], groups, -1, *x.shape[2:]).sum(2)
        return (x if self.layouts[i] == "BHTD" else x.transpose(0, 2, 1, 3)).astype(dtype)

    def _probabilities(self, *reads: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(probabilities, which scores count, values)."""
        q, k, v = (self._plain(x, i) for i, x in enumerate(reads[:3]))
        scores = np.matmul(q * self.scale, k.swapaxes(2, 3))
        if self.soft_cap:
            scores = self.soft_cap * np.tanh(scores / self.soft_cap)
        if self.bias is not None:
            scores = scores + reads[3].astype(np.float64)
        counts = np.ones(scores.shape, bool)
        if self.mask is not None:
            counts &= reads[3 + (self.bias is not None)].astype(bool)
        if self.causal:
            counts &= np.arange(scores.shape[3]) <= np.arange(scores.shape[2])[:, None] + int(self.sizes[5])
        scores = np.where(counts, scores, MASKED if self.empty == "uniform" else -np.inf)
        top = scores.max(-1, keepdims=True, initial=-np.inf)
        e = np.exp(scores - np.where(np.isneginf(top), 0, top))
        total = e.sum(-1, keepdims=True)
        return e / np.where(total == 0, 1, total), counts, v


@dataclass(frozen=True)
class AttendGrad(Attend):
    """The cotangents of q, k and v (written in this order) for that of the result, which is the last array read."""

    def compute(self, *reads: np.ndarray) -> tuple[np.ndarray, ...]:
        p, counts, v = self._probabilities(*reads)
        ct = reads[-1].astype(np.float64)
        ct = ct if self.layouts[3] == "BHTD" else ct.transpose(0, 2, 1, 3)
        dp = np.matmul(ct, v.swapaxes(2, 3))
        ds = self.scale * np.where(counts, p * (dp - (p * dp).sum(-1, keepdims=True)), 0)
        q, k = (self._plain(reads[i], i) for i in (0, 1))
        dtype = reads[0].dtype
        return (self._back(np.matmul(ds, k), 0, dtype), self._back(np.matmul(ds.swapaxes(2, 3), q), 1, dtype),
                self._back(np.matmul(p.swapaxes(2, 3), ct), 2, dtype))

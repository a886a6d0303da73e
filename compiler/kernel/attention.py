"""Attention and its derivative as routines: one step each, over whole arrays. What the attributes mean: ``ops.attention``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .routine import Routine

MASKED = float(np.float32(-0.7 * 3.4028234663852886e38))  # what JAX and Keras put in place of a masked score


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
        scores, counts, v = self._scores(*reads)
        top = scores.max(-1, keepdims=True, initial=-np.inf)
        e = np.exp(scores - np.where(np.isneginf(top), 0, top))
        total = e.sum(-1, keepdims=True)
        return e / np.where(total == 0, 1, total), counts, v

    def _scores(self, *reads: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
        return np.where(counts, scores, MASKED if self.empty == "uniform" else -np.inf), counts, v

    def _cotangent(self, ct: np.ndarray) -> np.ndarray:
        ct = ct.astype(np.float64)
        return ct if self.layouts[3] == "BHTD" else ct.transpose(0, 2, 1, 3)


@dataclass(frozen=True)
class AttendGrad(Attend):
    """The cotangents of q, k and v (written in this order) for that of the result, which is the last array read."""

    def compute(self, *reads: np.ndarray) -> tuple[np.ndarray, ...]:
        p, counts, v = self._probabilities(*reads)
        ct = self._cotangent(reads[-1])
        dp = np.matmul(ct, v.swapaxes(2, 3))
        ds = self.scale * np.where(counts, p * (dp - (p * dp).sum(-1, keepdims=True)), 0)
        q, k = (self._plain(reads[i], i) for i in (0, 1))
        dtype = reads[0].dtype
        return (self._back(np.matmul(ds, k), 0, dtype), self._back(np.matmul(ds.swapaxes(2, 3), q), 1, dtype),
                self._back(np.matmul(p.swapaxes(2, 3), ct), 2, dtype))


@dataclass(frozen=True)
class AttendQueryGrad(Attend):
    """The part of ``AttendGrad`` whose sums are over keys: writes dq, and for each of [batch, heads, queries], in float32 or wider, what ``AttendKeyGrad``
    needs: the largest score (0 where all are -inf), the reciprocal of the sum of exponentials (0 where there is none; negative where no score has
    a cotangent), and the sum of probabilities times their cotangents."""

    def compute(self, *reads: np.ndarray) -> tuple[np.ndarray, ...]:
        scores, counts, v = self._scores(*reads)
        top = scores.max(-1, initial=-np.inf)
        top = np.where(np.isneginf(top), 0, top)
        e = np.exp(scores - top[..., None])
        total = e.sum(-1)
        inverse = np.divide(1.0, total, out=np.zeros_like(total), where=total != 0)
        dp = np.matmul(self._cotangent(reads[-1]), v.swapaxes(2, 3))
        p = e * inverse[..., None]
        delta = (p * dp).sum(-1)
        ds = self.scale * np.where(counts, p * (dp - delta[..., None]), 0)
        wide = self.buffers[-1].dtype.np
        signed = np.where(counts.any(-1), inverse, -inverse)
        return (self._back(np.matmul(ds, self._plain(reads[1], 1)), 0, reads[0].dtype), top.astype(wide), signed.astype(wide), delta.astype(wide))


@dataclass(frozen=True)
class AttendKeyGrad(Attend):
    """The part of ``AttendGrad`` whose sums are over queries: reads in addition the three results of ``AttendQueryGrad``, writes dk and dv."""

    def compute(self, *reads: np.ndarray) -> tuple[np.ndarray, ...]:
        top, inverse, delta = (x.astype(np.float64)[..., None] for x in reads[-3:])
        scores, _, v = self._scores(*reads)
        ct = self._cotangent(reads[-4])
        p = np.exp(scores - top) * np.abs(inverse)
        ds = self.scale * np.where(inverse < 0, 0, p * (np.matmul(ct, v.swapaxes(2, 3)) - delta))
        dtype = reads[0].dtype
        return (self._back(np.matmul(ds.swapaxes(2, 3), self._plain(reads[0], 0)), 1, dtype), self._back(np.matmul(p.swapaxes(2, 3), ct), 2, dtype))

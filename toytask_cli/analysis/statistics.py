"""Intervals and rank correlation."""

import math

from torch import Tensor

Z95 = 1.959963984540054  # the normal quantile at 97.5 %


def wilson(right: int, n: int) -> tuple[float, float]:
    """The Wilson 95 % interval of a proportion (Wilson, 1927).

    With p = right / n and z = 1.96:  (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n).

    Raises:
        ValueError: n is not positive, or right lies outside 0 … n.
    """
    if not 0 <= right <= n or n <= 0:
        raise ValueError(f"no proportion: {right} of {n}")
    p, z2 = right / n, Z95**2
    middle = p + z2 / (2 * n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    low, high = (middle - half) / (1 + z2 / n), (middle + half) / (1 + z2 / n)
    return (0.0 if right == 0 else low), (1.0 if right == n else high)


def spearman(a: Tensor, b: Tensor) -> float | None:
    """Rank correlation of two [n] tensors, ties at their mean rank; None where one is constant."""
    a, b = (ranks(values) - (len(values) + 1) / 2 for values in (a, b))
    scale = float(a.norm() * b.norm())
    return float(a @ b) / scale if scale else None


def ranks(values: Tensor) -> Tensor:
    """[n] float64 ranks from 1 up; equal values share the mean of their ranks."""
    _, group, sizes = values.unique(return_inverse=True, return_counts=True)
    return (sizes.cumsum(dim=0) - (sizes - 1) / 2).double()[group]

"""Accuracy with its interval, the bootstrap, rank correlation, and the resolution of a loss."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

Z95 = 1.959963984540054  # the normal quantile at 97.5 %

# Nats. An importance of at most this counts as 0. It is a mean difference of losses of up to some
# 10 nats, and float32 numbers of 8 to 16 lie 2⁻²⁰ apart, about 1e-6: the sign of less can be
# rounding, which differs between processors.
FLOOR = 1e-6


@dataclass(frozen=True)
class Accuracy:
    """Exact match on some examples."""

    accuracy: float  # 0 to 1
    n: int
    ci95: tuple[float, float]  # Wilson

    @classmethod
    def of(cls, right: Tensor) -> "Accuracy":
        """Return the accuracy over [n] booleans, of which there must be some."""
        n, n_right = len(right), int(right.sum())
        return cls(n_right / n, n, wilson(n_right, n))


def wilson(n_right: int, n: int) -> tuple[float, float]:
    """Return the Wilson 95 % interval of a proportion (Wilson, 1927).

    With p = n_right / n and z = 1.96:  (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n).

    Raises:
        ValueError: n is not positive, or n_right lies outside 0 … n.
    """
    if not 0 <= n_right <= n or n <= 0:
        raise ValueError(f"no proportion: {n_right} of {n}")
    p, z2 = n_right / n, Z95**2
    middle = p + z2 / (2 * n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    low, high = (middle - half) / (1 + z2 / n), (middle + half) / (1 + z2 / n)
    return (0.0 if n_right == 0 else low), (1.0 if n_right == n else high)


def poisson_weights(resamples: int, n: int, draw: torch.Generator) -> Tensor:
    """Return [resamples, n] Poisson(1) weights, for a bootstrap over n more observations.

    In a Poisson bootstrap (Hanley & MacGibbon, 2006) the weights of each observation are drawn
    independently of how many there are, so it works chunk by chunk.
    """
    return torch.poisson(torch.ones(resamples, n), generator=draw)


def percentile_interval(samples: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return the lower and the upper end of the 95 % percentile interval along a dimension."""
    ordered = samples.sort(dim=dim).values
    last = samples.shape[dim] - 1
    return ordered.select(dim, round(0.025 * last)), ordered.select(dim, round(0.975 * last))


def spearman(a: Tensor, b: Tensor) -> float | None:
    """Return the rank correlation of two [n] tensors, or None where one of them is constant."""
    a, b = (ranks(values) - (len(values) + 1) / 2 for values in (a, b))
    scale = float(a.norm() * b.norm())
    return float(a @ b) / scale if scale else None


def ranks(values: Tensor) -> Tensor:
    """Return [n] float64 ranks from 1 up; equal values share the mean of their ranks."""
    _, group, sizes = values.unique(return_inverse=True, return_counts=True)
    return (sizes.cumsum(dim=0) - (sizes - 1) / 2).double()[group]

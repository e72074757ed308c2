"""What several runs support: components of variance, n of n, paired differences.

Runs are the unit: answers of different runs are never pooled. A table holds one number for each
cell, a seed and a split.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any, NamedTuple

Table = Mapping[tuple[Any, Any], float]

MISSED = 0.05  # the risk of every statement: 95 %


class Spread(NamedTuple):
    """Standard deviations; None where the runs cannot tell."""

    seeds: float | None = None
    splits: float | None = None
    residual: float | None = None  # of seed and split together, and of anything else


def spread(table: Table) -> Spread:
    """Return how much runs differ by seed, by split, and by both together.

    Where every seed has a split of its own, the spread over seeds is that of both. Of a crossed
    table, seeds with a missing cell are left out.
    """
    seeds, splits = ({cell[axis]: None for cell in table} for axis in (0, 1))
    if len(table) < 2:
        return Spread()
    if len(seeds) == len(table):
        return Spread(seeds=stdev(table.values()))
    if len(splits) == len(table):
        return Spread(splits=stdev(table.values()))
    rows = [[table.get((seed, split)) for split in splits] for seed in seeds]
    complete = [[value for value in row if value is not None] for row in rows if None not in row]
    return two_way(complete) if len(complete) >= 2 else Spread()


def two_way(rows: Sequence[Sequence[float]]) -> Spread:
    """Return the components of variance of a table of seeds by splits, two or more of each.

    Random effects y_ij = μ + seed_i + split_j + e_ij, one run a cell, estimated by the analysis of
    variance (Searle, Casella & McCulloch, "Variance Components", 1992, chapter 4): with mean
    squares MS, e² = MS_e, seed² = (MS_seed − MS_e) / J, split² = (MS_split − MS_e) / I; a negative
    estimate is zero.
    """
    n_seeds, n_splits = len(rows), len(rows[0])
    of_seeds = [fmean(row) for row in rows]
    of_splits = [fmean(column) for column in zip(*rows, strict=True)]
    mean = fmean(of_seeds)
    residuals = [
        value - of_seeds[i] - of_splits[j] + mean
        for i, row in enumerate(rows)
        for j, value in enumerate(row)
    ]
    ms_residual = sum(r * r for r in residuals) / ((n_seeds - 1) * (n_splits - 1))
    seeds = stdev(of_seeds) ** 2 - ms_residual / n_splits
    splits = stdev(of_splits) ** 2 - ms_residual / n_seeds
    return Spread(*(math.sqrt(max(0.0, value)) for value in (seeds, splits, ms_residual)))


def worse_at_most(n: int) -> float:
    """Return the largest share of runs that can be worse than the worst of n, at 95 %.

    If a share q of all runs were worse than some bound, n independent ones would all meet it with
    probability (1 − q)^n; this is 5 % at q = 1 − 0.05^(1/n) (Wilks, 1941; for a target that was set
    before, Clopper & Pearson, 1934). 10 runs: 26 %; 29: 9.8 %; 59: 4.95 %.
    """
    return 1 - MISSED ** (1 / n)


def independent_runs(table: Table) -> int:
    """Return how many of the runs count for `worse_at_most`.

    Runs that share a seed, or a split, are not independent: given the splits, every seed counts
    once, with its worst run; of a single seed, every split does.
    """
    seeds, splits = ({cell[axis] for cell in table} for axis in (0, 1))
    return len(seeds) if len(seeds) > 1 else len(splits)


class Difference(NamedTuple):
    """One recipe less another, over the cells that both have."""

    n: int
    mean: float
    ci95: tuple[float, float] | None  # None for fewer than two units
    share_won: float  # of the cells, those in which the first is better; a tie counts half


def paired_difference(
    first: Table, second: Table, *, higher_is_better: bool, test_to_train: float | None = None
) -> Difference | None:
    """Compare two recipes cell by cell; None if they have no cell in common.

    The interval is mean ± t · standard error. With one run a seed the error is s / √n. With seeds
    and splits crossed it is √(seed²/I + split²/J + e²/IJ), of the components of `two_way`, with
    min(I, J) − 1 degrees of freedom. Between k folds it is s √(1/k + test/train) over the folds'
    means (Nadeau & Bengio, "Inference for the generalization error", 2003), since their training
    sets overlap.

    Args:
        test_to_train: for folds, the ratio of their sizes.
    """
    cells = [cell for cell in first if cell in second]
    if not cells:
        return None
    differences = {cell: first[cell] - second[cell] for cell in cells}
    signed = [value if higher_is_better else -value for value in differences.values()]
    won = fmean(1.0 if value > 0 else 0.5 if value == 0 else 0.0 for value in signed)
    mean = fmean(differences.values())
    error, units = _standard_error(differences, test_to_train)
    half = None if error is None else t_quantile(units - 1) * error
    ci95 = None if half is None else (mean - half, mean + half)
    return Difference(len(cells), mean, ci95, won)


def _standard_error(table: Table, test_to_train: float | None) -> tuple[float | None, int]:
    """Return the standard error of the table's mean, if it has one, and the number of units."""
    if test_to_train is not None:
        folds = _means_by_split(table)
        k = len(folds)
        return (stdev(folds) * math.sqrt(1 / k + test_to_train) if k > 1 else None), k
    n_seeds, n_splits = (len({cell[axis] for cell in table}) for axis in (0, 1))
    if max(n_seeds, n_splits) == len(table):
        n = len(table)
        return (stdev(table.values()) / math.sqrt(n) if n > 1 else None), n
    seeds, splits, residual = spread(table)
    if seeds is None or splits is None or residual is None:
        return None, 1
    variance = seeds**2 / n_seeds + splits**2 / n_splits + residual**2 / len(table)
    return math.sqrt(variance), min(n_seeds, n_splits)


def _means_by_split(table: Table) -> list[float]:
    splits = dict.fromkeys(split for _, split in table)  # in order: a set's order varies
    return [fmean(v for (_, other), v in table.items() if other == split) for split in splits]


def t_quantile(freedom: int) -> float:
    """Return t with P(|T| ≤ t) = 95 % for Student's distribution, by bisection."""
    low, high = 0.0, 20.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < 1 - MISSED else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """Return P(|T| ≤ t) (Abramowitz & Stegun, 1964, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    series = term if freedom > 1 else 0.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= math.cos(angle) ** 2 * (k - 1) / k
        series += term
    series *= math.sin(angle)
    return 2 / math.pi * (angle + series) if odd else series

"""Words for a study: its recipes, its values, and what its runs support."""

from collections.abc import Mapping, Sequence
from typing import Any

from toytask_cli.analysis.quantities import is_share

Row = Mapping[str, Any]  # of the report's summary or comparisons


def recipe_text(recipe: Row) -> str:
    """Return what tells a recipe from the others: `lambda 0.001, beta 0.1`."""
    texts = (f"{key} {field_text(value)}" for key, value in recipe.items())
    return ", ".join(texts) or "all runs"


def field_text(value: Any) -> str:
    """Return a value of a recipe's field; the names of a list are joined by +."""
    return "+".join(value) if isinstance(value, list) else str(value)


def value_text(quantity: str, value: float, sign: str = "") -> str:
    """Format a value: a share in percent, any other number to four digits."""
    return f"{100 * value:{sign}.2f}" if is_share(quantity) else f"{value:{sign}.4g}"


def support_text(rows: Sequence[Row]) -> str:
    """Return what the runs of one recipe support, from its rows of the summary."""
    n, share = max((row["n"], row["worse_at_most"]) for row in rows)
    runs = "run" if n == 1 else "runs"
    of_such = f"at most {100 * share:.2g} % of such runs"
    return f"{n} {runs}: {of_such} are worse than the worst of these (95 %)"

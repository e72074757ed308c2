"""The quantities of a run that a study compares: one number each, by a flat name."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

Report = Mapping[str, Any]

DEFINITIONS = {
    "accuracy.TASK": "share of the task's answers on the report split that match exactly, 0 to 1",
    "removed.TASK.tolT.ERROR.left": "accuracy of the removed task after its removal at tolerance T "
    "(nats), the SAE's reconstruction error kept or dropped (keep, drop), 0 to 1; lower is better",
    "removed.TASK.tolT.ERROR.kept.OTHER": "share that another task keeps of its accuracy before "
    "the removal; higher is better",
    "l0": "mean over answer positions of the number of neurons that fire; lower is sparser",
    "nonzero": "share of the activations that are not zero, 0 to 1; lower is sparser",
    "explained_variance": "1 − Σ‖x − x̂‖² / Σ‖x − x̄‖²; higher is better",
    "dead": "neurons that fire at no answer position of the report split; lower is better",
    "validation_loss": "the whole loss on validation at the best epoch; lower is better",
    "epochs": "finished epochs, both phases together; lower is better",
    "seconds": "wall time of training and validation; lower is better",
}
HIGHER_IS_BETTER = {"accuracy", "kept", "explained_variance"}
REMOVAL = re.compile(r"removed\.(.+)\.tol([^a-z]\S*)\.(keep|drop)\.(left|kept)(?:\.(.+))?")


def higher_is_better(quantity: str) -> bool:
    """Return whether a higher value of a quantity is the better one."""
    return not HIGHER_IS_BETTER.isdisjoint(quantity.split("."))


def is_share(quantity: str) -> bool:
    """Return whether a quantity is a share of answers, which is shown in percent."""
    return quantity.startswith(("accuracy.", "removed."))


def label_of(quantity: str, with_tolerance: bool = True) -> str:
    """Return a quantity in words: `concat removed at 0.1, keep: sum kept`."""
    if match := REMOVAL.fullmatch(quantity):
        task, tolerance, error, what, kept = match.groups()
        at = f" at {tolerance}" if with_tolerance else ""
        return f"{task} removed{at}, {error}: {f'{kept} ' if kept else ''}{what}"
    return quantity.replace(".", " of ").replace("_", " ")


def values_of(train: Report, sparsity: Report, ablations: Iterable[Report]) -> dict[str, float]:
    """Return quantity → value of a run.

    Args:
        train: report of `toytask train`.
        sparsity: report of `toytask sparsity`.
        ablations: reports of `toytask ablate`, one for each removal.
    """
    values = {f"accuracy.{task}": score["accuracy"] for task, score in train["tasks"].items()}
    for ablation in ablations:
        values |= _removal_values(ablation)
    over_all = sparsity["all"]
    values |= {
        "l0": over_all["l0"],
        "nonzero": over_all["fraction_nonzero"],
        "explained_variance": over_all["explained_variance"],
        "dead": over_all["dead_neurons"],
        "validation_loss": train["validation"]["loss"],
        "epochs": train["epochs"],
        "seconds": train["seconds"],
    }
    return {quantity: value for quantity, value in values.items() if value is not None}


def _removal_values(ablation: Report) -> dict[str, float]:
    removed = ablation["removed_task"]
    prefix = f"removed.{removed}.tol{ablation['tolerance']:g}.{ablation['error']}"
    before, after = (
        {task: measured["accuracy"] for task, measured in ablation["test"][when].items()}
        for when in ("before", "after")
    )
    shares = {task: after[task] / before[task] for task in ablation["kept_tasks"] if before[task]}
    kept = {f"{prefix}.kept.{task}": share for task, share in shares.items()}
    return {f"{prefix}.left": after[removed], **kept}

"""The configuration of a run, its checks when it is built or read, and its named presets.

`DataSpec` is what decides the data and the splits; `Recipe` adds the model, the objective and the
training. A field's help and its valid values are written beside it; the command line has one option
for each field.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from toytask_cli.errors import ToytaskError, UsageError, unknown_choice
from toytask_cli.folds import parse_fold
from toytask_cli.tasks import TASKS, find_tasks
from toytask_cli.valid import (
    DIGITS,
    INNER_SHARE,
    LARGEST_INT,
    ONE_OR_MORE,
    POSITIVE,
    SHARE,
    ZERO_OR_MORE,
    Valid,
    as_type,
    check_value,
    key_of,
    require,
)

SPLIT_BY = ("pair", "example", "fold-1-of-5")  # or any other fold of `folds.py`
OPTIMIZERS = ("muon", "adamw")
SAE_KINDS = ("relu", "topk", "jumprelu")  # each has a class in `sae.SAE_CLASSES`


def _option(
    default: Any, help: str, valid: Valid | None = ZERO_OR_MORE, sae: str | None = None
) -> Any:
    """Return a field; `sae` is the one kind of SAE that has it, None where every recipe has it."""
    return field(default=default, metadata={"help": help, "valid": valid, "sae": sae})


def option_of(name: str) -> str:
    """Return the command-line option of a field: `--train-fraction`."""
    return f"--{key_of(name).replace('_', '-')}"


def choices_of(name: str) -> Collection[str]:
    """Return the names that a field can hold, or none if it holds anything else."""
    choices = {"tasks": TASKS, "split_by": SPLIT_BY, "sae": SAE_KINDS, "optimizer": OPTIMIZERS}
    return choices.get(name, ())


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """The settings that determine the examples and the split of each."""

    tasks: tuple[str, ...] = _option(
        ("sum", "concat"), "Tasks to learn, separated by commas.", None
    )
    digits: int = _option(2, f"Operands have up to this many digits ({DIGITS.words}).", DIGITS)
    split_by: str = _option(
        "pair",
        "Split by operand `pair`, so that 12+34 and 12C34 stay together, or by `example`; "
        "`fold-1-of-5` tests the first of five disjoint fifths of the pairs.",
        None,
    )
    train_fraction: float = _option(0.3, "Share of the data to train on.", INNER_SHARE)
    validation_fraction: float = _option(
        0.2, "Share to choose weights and neurons on; the rest is the test split.", POSITIVE
    )
    split_seed: int = _option(0, "Seed of the split. Default: the seed of the run.")

    def __post_init__(self) -> None:
        for f in fields(self):
            value, choices = getattr(self, f.name), choices_of(f.name)
            is_fold = f.name == "split_by" and parse_fold(value)
            if choices and isinstance(value, str) and value not in choices and not is_fold:
                raise unknown_choice(f.name, value, choices)
            check_value(f.name, value, f.metadata["valid"])
        find_tasks(self.tasks)
        different = len(set(self.tasks)) == len(self.tasks) >= 2
        require(different, "tasks", ",".join(self.tasks), "two or more different tasks")
        require(
            self.train_fraction + self.validation_fraction <= 1 + 1e-9,
            "validation_fraction",
            self.validation_fraction,
            "at most 1 together with train_fraction",
        )

    def settings(self) -> list[str]:
        """Return the names of the fields."""
        return [f.name for f in fields(self)]

    def check_settings(self, names: Iterable[str]) -> None:
        """Raise a UsageError for a field that only another kind of SAE has."""
        kinds = {f.name: f.metadata["sae"] for f in fields(self)}
        for name in sorted(set(names) - set(self.settings())):
            kind = kinds[name]
            raise UsageError(
                f"{key_of(name)} is only for sae {kind}: leave it out, or choose {kind}"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the settings under their JSON keys."""
        values = {key_of(name): getattr(self, name) for name in self.settings()}
        return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], source: str) -> Self:
        """Return the configuration that `to_json` wrote.

        Args:
            values: one value for each setting, no more and no less.
            source: the file to name in an error.

        Raises:
            ToytaskError: a key is unknown, missing or of another kind of SAE, or a value of the
                wrong kind.
        """
        checked = checked_values(cls, values, source)
        spec = cls(**checked)
        if missing := set(spec.settings()) - checked.keys():
            raise ToytaskError(f"{source}: missing key {key_of(min(missing))!r}")
        spec.check_settings(checked)
        return spec

    def data_spec(self) -> "DataSpec":
        """Return the fields that decide the data, without the others."""
        return DataSpec(**{f.name: getattr(self, f.name) for f in fields(DataSpec)})


@dataclass(frozen=True, kw_only=True)
class Recipe(DataSpec):
    """All settings that determine a trained model, apart from the machine."""

    seed: int = _option(0, "Seed of initial weights, batches and, unless given, the split.")
    d_model: int = _option(256, "Width of the residual stream.", ONE_OR_MORE)
    n_heads: int = _option(4, "Attention heads; they divide d_model.", ONE_OR_MORE)
    d_ff: int = _option(1024, "Width of the feed-forward layers.", ONE_OR_MORE)
    sae: str = _option("relu", f"Kind of sparse autoencoder: {', '.join(SAE_KINDS)}.", None)
    d_sae: int = _option(1024, "Neurons of the sparse autoencoder.", ONE_OR_MORE)
    token_scale: float = _option(0.3, "Standard deviation of the initial token embeddings.")
    position_scale: float = _option(0.1, "Standard deviation of the initial positions.")
    alpha: float = _option(1.0, "Weight of the SAE's reconstruction error, while learning.")
    lambda_: float = _option(
        1e-3, "Weight of the L1 norm of the SAE's activations; for relu.", sae="relu"
    )
    k: int = _option(16, "Neurons that can fire at a position; for topk.", ONE_OR_MORE, sae="topk")
    target_l0: float = _option(
        16.0, "Neurons that fire at a position, on average; for jumprelu.", POSITIVE, "jumprelu"
    )
    beta: float = _option(0.2, "Weight of the overlap between tasks, while separating.")
    separate_alpha: float = _option(20.0, "The same as alpha, while separating.")
    optimizer: str = _option(
        "muon",
        "`muon` for the matrices of hidden layers, AdamW for the rest; or `adamw` for all, which "
        "needs a lower lr.",
        None,
    )
    lr: float = _option(4e-3, "Learning rate of AdamW.", POSITIVE)
    weight_decay: float = _option(1.0, "Weight decay of AdamW.")
    muon_lr: float = _option(0.03, "Learning rate of Muon.", POSITIVE)
    muon_weight_decay: float = _option(0.1, "Weight decay of Muon.")
    clip: float = _option(1.0, "Largest norm of the gradient; 0 leaves it as it is.")
    batch_size: int = _option(
        256, "Examples in a step. Unless given, 128 for each task.", ONE_OR_MORE
    )
    warmup_steps: int = _option(20, "Steps over which the rate rises from zero.")
    epochs: int = _option(
        60,
        "Limit of the whole run, both phases together. Unless given, 30 for each task.",
        ONE_OR_MORE,
    )
    separate_epochs: int = _option(
        12,
        "Epochs of the second phase: beta on, rate falling to zero. 0: no second phase. "
        "Unless given, 6 for each task, or fewer where epochs are fewer than 30 for each.",
    )
    learnt_accuracy: float = _option(
        0.95, "Validation accuracy that every task must reach before the second phase.", SHARE
    )
    validate_every: int = _option(1, "Epochs between validations.", ONE_OR_MORE)

    def __post_init__(self) -> None:
        super().__post_init__()
        divides = self.d_model % self.n_heads == 0
        require(divides, "n_heads", self.n_heads, f"a divisor of {self.d_model}")
        for name in {"k", "target_l0"}.intersection(self.settings()):
            firing = getattr(self, name)
            require(firing <= self.d_sae, name, firing, f"at most d_sae, {self.d_sae}")

    def settings(self) -> list[str]:
        """Return the names of all fields but those of other kinds of SAE."""
        return [f.name for f in fields(self) if f.metadata["sae"] in (None, self.sae)]


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "article": {
        "split_by": "example",
        "train_fraction": 0.3,
        "validation_fraction": 0.7,
        "token_scale": 1.0,
        "position_scale": 1.0,
        "alpha": 1.0,
        "lambda_": 1e-3,
        "beta": 0.0,
        "lr": 1e-3,
        "optimizer": "adamw",
        "weight_decay": 1.0,
        "batch_size": 512,
        "warmup_steps": 0,
        "epochs": 1000,
        "separate_epochs": 0,
    },
}


def resolve(preset: str, *layers: Mapping[str, Any]) -> Recipe:
    """Return a preset with layers of field values over it; the last layer wins.

    Unless a layer sets them, `split_seed` is the seed, and `batch_size`, `epochs` and
    `separate_epochs` grow with the number of tasks: six tasks do not learn to add from fewer
    examples of each in a step, and lose some accuracy where they separate in fewer epochs.
    `separate_epochs` shrinks with `epochs`, so that a short run has epochs to learn in.

    Raises:
        UsageError: an unknown preset, or a value out of range.
    """
    if preset not in PRESETS:
        raise unknown_choice("preset", preset, PRESETS)
    values = dict(PRESETS[preset])
    for layer in layers:
        values |= layer
    seed = values.get("seed", Recipe.seed)
    # Checked before it becomes `split_seed`, so that an error names the option that was given.
    require(0 <= seed <= LARGEST_INT, "seed", seed, f"0 to {LARGEST_INT}")
    values.setdefault("split_seed", seed)
    growth = len(values.get("tasks", Recipe.tasks)) / len(Recipe.tasks)
    values.setdefault("batch_size", int(Recipe.batch_size * growth))
    epochs = int(Recipe.epochs * growth)
    share = min(1, values.setdefault("epochs", epochs) / epochs)
    values.setdefault("separate_epochs", int(Recipe.separate_epochs * growth * share))
    return Recipe(**values)


def checked_values(kind: type[DataSpec], values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return JSON values under their field names, each of its field's type.

    Raises:
        ToytaskError: a key that is no field, or a value of the wrong kind.
    """
    by_key = {key_of(f.name): f for f in fields(kind)}
    checked = {}
    for key, value in values.items():
        if key not in by_key:
            raise ToytaskError(f"{source}: {unknown_choice('key', key, by_key)}")
        checked[by_key[key].name] = as_type(by_key[key].type, value, f"{source}: {key}")
    return checked

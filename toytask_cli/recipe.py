"""The configuration of a run, its checks when it is built or read, and its named presets.

`DataSpec` is what decides the data and the splits; `Recipe` adds the model, the objective and the
training. A field's help and its valid values are written beside it; the command line has one option
for each field.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Self

from toytask_cli.errors import ToytaskError, UsageError, short_repr, unknown_choice
from toytask_cli.folds import parse_fold
from toytask_cli.tasks import find_tasks

SPLIT_BY = ("pair", "example")
OPTIMIZERS = ("muon", "adamw")
SAE_KINDS = ("relu",)  # each has a class in `sae.SAE_CLASSES`
MAX_DIGITS = 3
LARGEST_INT = 2**63 - 1


class Valid(NamedTuple):
    """The valid values of a field, in words and as a check."""

    words: str
    check: Callable[[float], bool]


ZERO_OR_MORE = Valid("0 or more", lambda value: value >= 0)
ONE_OR_MORE = Valid("1 or more", lambda value: value >= 1)
POSITIVE = Valid("more than 0", lambda value: value > 0)
SHARE = Valid("0 to 1", lambda value: 0 <= value <= 1)
INNER_SHARE = Valid("more than 0 and less than 1", lambda value: 0 < value < 1)
DIGITS = Valid(f"1 to {MAX_DIGITS}", lambda value: 1 <= value <= MAX_DIGITS)


def _option(default: Any, help: str, valid: Valid | None = ZERO_OR_MORE) -> Any:
    return field(default=default, metadata={"help": help, "valid": valid})


def key_of(name: str) -> str:
    """Return the JSON key of a field: `lambda` for `lambda_`."""
    return name.rstrip("_")


def option_of(name: str) -> str:
    """Return the command-line option of a field: `--train-fraction`."""
    return f"--{key_of(name).replace('_', '-')}"


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
            _check(f.name, getattr(self, f.name), f.metadata["valid"])
        find_tasks(self.tasks)
        different = len(set(self.tasks)) == len(self.tasks) >= 2
        _require(different, "tasks", ",".join(self.tasks), "two or more different tasks")
        if self.split_by not in SPLIT_BY and not parse_fold(self.split_by):
            raise unknown_choice("split_by", self.split_by, (*SPLIT_BY, "fold-1-of-5"))
        _require(
            self.train_fraction + self.validation_fraction <= 1 + 1e-9,
            "validation_fraction",
            self.validation_fraction,
            "at most 1 together with train_fraction",
        )

    def to_json(self) -> dict[str, Any]:
        """Return all fields under their JSON keys."""
        values = {key_of(f.name): getattr(self, f.name) for f in fields(self)}
        return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], source: str) -> Self:
        """Return the configuration that `to_json` wrote.

        Args:
            values: one value for each field, no more and no less.
            source: the file to name in an error.

        Raises:
            ToytaskError: a key that is unknown or missing, or a value of the wrong kind.
        """
        checked = checked_values(cls, values, source)
        missing = {f.name for f in fields(cls)} - checked.keys()
        if missing:
            raise ToytaskError(f"{source}: missing key {key_of(min(missing))!r}")
        return cls(**checked)

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
    lambda_: float = _option(1e-3, "Weight of the L1 norm of the SAE's activations.")
    beta: float = _option(1e-1, "Weight of the overlap between tasks, while separating.")
    separate_alpha: float = _option(5.0, "The same as alpha, while separating.")
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
    batch_size: int = _option(256, "Examples in a step.", ONE_OR_MORE)
    warmup_steps: int = _option(20, "Steps over which the rate rises from zero.")
    epochs: int = _option(60, "Limit of the whole run, both phases together.", ONE_OR_MORE)
    separate_epochs: int = _option(
        18,
        "Epochs of the second phase: beta on, rate falling to zero. 0: no second phase. "
        "Unless given, fewer where epochs are fewer than the default.",
    )
    learnt_accuracy: float = _option(
        0.95, "Validation accuracy that every task must reach before the second phase.", SHARE
    )
    validate_every: int = _option(1, "Epochs between validations.", ONE_OR_MORE)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, choices in (("sae", SAE_KINDS), ("optimizer", OPTIMIZERS)):
            if getattr(self, name) not in choices:
                raise unknown_choice(name, getattr(self, name), choices)
        divides = self.d_model % self.n_heads == 0
        _require(divides, "n_heads", self.n_heads, f"a divisor of {self.d_model}")


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

    Unless a layer sets them, `split_seed` is the seed, and `separate_epochs` shrinks with `epochs`
    below the default, so that a short run has epochs to learn in.

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
    _require(0 <= seed <= LARGEST_INT, "seed", seed, f"0 to {LARGEST_INT}")
    values.setdefault("split_seed", seed)
    share = values.get("epochs", Recipe.epochs) / Recipe.epochs
    values.setdefault("separate_epochs", int(Recipe.separate_epochs * min(1, share)))
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
        checked[by_key[key].name] = _as_type(by_key[key].type, value, f"{source}: {key}")
    return checked


def _as_type(kind: Any, value: Any, where: str) -> Any:
    if type(value) is int and abs(value) > LARGEST_INT:
        raise ToytaskError(f"{where} is {short_repr(value)}, which is too large")
    if kind is float and type(value) is int:
        return float(value)
    if kind == tuple[str, ...] and type(value) is list and all(type(v) is str for v in value):
        return tuple(value)
    if type(value) is not kind:
        name = "list of names" if kind == tuple[str, ...] else kind.__name__
        raise ToytaskError(f"{where} is {short_repr(value)}, which is no {name}")
    return value


def _check(name: str, value: Any, valid: Valid | None) -> None:
    if isinstance(value, int):
        _require(value <= LARGEST_INT, name, value, f"{LARGEST_INT} at most")
    if isinstance(value, float):
        _require(math.isfinite(value), name, value, "a finite number")
    if valid:
        _require(valid.check(value), name, value, valid.words)


def _require(condition: bool, name: str, value: Any, valid: str) -> None:
    if not condition:
        raise UsageError(f"{key_of(name)} is {value}: must be {valid}")

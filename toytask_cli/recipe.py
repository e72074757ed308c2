"""One frozen configuration, its checks, and its named presets.

`DataSpec` holds what decides the data and the split; `Recipe` adds the model, the objective and
the training. A field's help is the help of the option of the same name, so each is said once.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from toytask_cli.errors import ToytaskError, UsageError, short_repr, unknown_choice
from toytask_cli.tasks import find_tasks

SPLIT_BY = ("pair", "example")
SAE_KINDS = ("relu",)  # each has a class in `sae.SAE_CLASSES`
MAX_DIGITS = 3
LARGEST_INT = 2**63 - 1
MAX_HEADS = 32  # all heads meet all heads: their cost grows with the square of their number


def _option(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


def key_of(name: str) -> str:
    """The name of a field in JSON: `lambda_` is `lambda`."""
    return name.rstrip("_")


def option_of(name: str) -> str:
    """The option of a field on the command line: `--train-fraction`."""
    return f"--{key_of(name).replace('_', '-')}"


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """What decides the examples and who sees which of them."""

    tasks: tuple[str, ...] = _option(("sum", "concat"), "Tasks to learn, separated by commas.")
    digits: int = _option(2, f"Operands have up to this many digits (1 to {MAX_DIGITS}).")
    split_by: str = _option(
        "pair",
        "Split by operand `pair`, so that 12+34 and 12C34 stay together, or by `example`.",
    )
    train_fraction: float = _option(0.3, "Share of the data to train on.")
    validation_fraction: float = _option(
        0.2, "Share to choose weights and neurons on; the rest is the test split."
    )
    split_seed: int = _option(0, "Seed of the split. Default: the seed of the run.")

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.type is int:
                _require(value <= LARGEST_INT, f.name, value, f"{LARGEST_INT} at most")
            if f.type is float:
                _require(math.isfinite(value), f.name, value, "a finite number")
        find_tasks(self.tasks)
        _require(
            len(set(self.tasks)) == len(self.tasks) >= 2,
            "tasks",
            ",".join(self.tasks),
            "two or more different tasks",
        )
        _require(1 <= self.digits <= MAX_DIGITS, "digits", self.digits, f"1 to {MAX_DIGITS}")
        if self.split_by not in SPLIT_BY:
            raise unknown_choice("split_by", self.split_by, SPLIT_BY)
        train, validation = self.train_fraction, self.validation_fraction
        _require(0 < train < 1, "train_fraction", train, "more than 0 and less than 1")
        _require(
            0 < validation <= 1 - train + 1e-9,
            "validation_fraction",
            validation,
            "more than 0, and at most 1 together with train_fraction",
        )
        _require(self.split_seed >= 0, "split_seed", self.split_seed, "0 or more")

    def to_json(self) -> dict[str, Any]:
        """All fields under their JSON names."""
        values = {key_of(f.name): getattr(self, f.name) for f in fields(self)}
        return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], source: str) -> Self:
        """The complete configuration that `to_json` wrote.

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
        """The part of this configuration that decides the data."""
        return DataSpec(**{f.name: getattr(self, f.name) for f in fields(DataSpec)})


@dataclass(frozen=True, kw_only=True)
class Recipe(DataSpec):
    """All that decides a trained model, apart from the machine."""

    seed: int = _option(0, "Seed of initial weights, batches and, unless given, the split.")
    d_model: int = _option(256, "Width of the residual stream.")
    n_heads: int = _option(4, f"Attention heads; they divide d_model, {MAX_HEADS} at most.")
    d_ff: int = _option(1024, "Width of the feed-forward layers.")
    sae: str = _option("relu", f"Kind of sparse autoencoder: {', '.join(SAE_KINDS)}.")
    d_sae: int = _option(1024, "Neurons of the sparse autoencoder.")
    token_scale: float = _option(0.3, "Standard deviation of the initial token embeddings.")
    position_scale: float = _option(0.1, "Standard deviation of the initial positions.")
    alpha: float = _option(1.0, "Weight of the SAE's reconstruction error, while learning.")
    lambda_: float = _option(1e-3, "Weight of the L1 norm of the SAE's activations.")
    beta: float = _option(2e-2, "Weight of the overlap between tasks, while separating.")
    separate_alpha: float = _option(5.0, "The same as alpha, while separating.")
    lr: float = _option(2e-3, "Learning rate.")
    weight_decay: float = _option(1.0, "Weight decay of AdamW, on every parameter.")
    clip: float = _option(1.0, "Largest norm of the gradient; 0 leaves it as it is.")
    batch_size: int = _option(256, "Examples in a step.")
    warmup_steps: int = _option(20, "Steps over which the rate rises from zero.")
    epochs: int = _option(170, "Limit of the whole run, both phases together.")
    separate_epochs: int = _option(
        60,
        "Epochs of the second phase: beta on, rate falling to zero. 0: no second phase. "
        "Unless given, fewer where epochs are fewer than the default.",
    )
    learnt_accuracy: float = _option(
        0.98, "Validation accuracy that every task must reach before the second phase."
    )
    validate_every: int = _option(1, "Epochs between validations.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("d_model", "n_heads", "d_ff", "d_sae", "batch_size", "epochs"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        _require(self.validate_every >= 1, "validate_every", self.validate_every, "1 or more")
        _require(
            self.d_model % self.n_heads == 0 and self.n_heads <= MAX_HEADS,
            "n_heads",
            self.n_heads,
            f"a divisor of {self.d_model}, {MAX_HEADS} at most",
        )
        if self.sae not in SAE_KINDS:
            raise unknown_choice("sae", self.sae, SAE_KINDS)
        _require(self.lr > 0, "lr", self.lr, "more than 0")
        for name in (
            "alpha", "separate_alpha", "lambda_", "beta", "weight_decay", "clip", "token_scale",
            "position_scale", "warmup_steps", "separate_epochs", "seed",
        ):  # fmt: skip
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        _require(0 <= self.learnt_accuracy <= 1, "learnt_accuracy", self.learnt_accuracy, "0 to 1")


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
        "weight_decay": 1.0,
        "batch_size": 512,
        "warmup_steps": 0,
        "epochs": 1000,
        "separate_epochs": 0,
    },
}


def resolve(preset: str, *layers: Mapping[str, Any]) -> Recipe:
    """A preset with layers of field values over it, the last one winning.

    Unless a layer sets it, `split_seed` follows `seed`, and `separate_epochs` keeps its share of
    fewer epochs than the default: a short run would else have no epoch to learn in.

    Raises:
        UsageError: an unknown preset, or a value out of range.
    """
    if preset not in PRESETS:
        raise unknown_choice("preset", preset, PRESETS)
    values = dict(PRESETS[preset])
    for layer in layers:
        values |= layer
    seed = values.get("seed", Recipe.seed)
    # Before `split_seed` takes it, so that an error names what was given.
    _require(0 <= seed <= LARGEST_INT, "seed", seed, f"0 to {LARGEST_INT}")
    values.setdefault("split_seed", seed)
    share = values.get("epochs", Recipe.epochs) / Recipe.epochs
    values.setdefault("separate_epochs", int(Recipe.separate_epochs * min(1, share)))
    return Recipe(**values)


def checked_values(kind: type[DataSpec], values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """JSON values under their field names, each of its field's type.

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


def _require(condition: bool, name: str, value: Any, valid: str) -> None:
    if not condition:
        raise UsageError(f"{key_of(name)} is {value}: must be {valid}")

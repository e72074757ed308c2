"""Mutations of what a JSON file says."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

from mutations.victim import DATA, ESCAPE, JSON, RUN, Victim

NEITHER = {"NaN": "@NaN@", "Infinity": "@Infinity@", "-Infinity": "@-Infinity@", "1e999": "@1e999@"}


# What only this program writes. An ablation with a right checksum may be a person's own.
PROGRAM_ONLY = ("config.json", "manifest.json", "train.json")


def random_json(random: Random, depth: int = 2) -> Any:
    """Any value, those that JSON does not have among them."""
    kinds: list[Callable[[], Any]] = [
        lambda: random.choice([None, True, False, [], {}, "", 0, 1, -1, 0.5, -0.0, 5e-324, 1e308]),
        lambda: random.choice([2, 3, 47, 10**3, 10**9, 2**31, 2**63, 2**64, 10**400, -(10**9)]),
        lambda: random.choice([*NEITHER.values()]),
        lambda: random.choice(["3", "nan", "true", "sum", ESCAPE, "\ud800", "é" * 100_000, "../x"]),
        lambda: [random_json(random, depth - 1) for _ in range(random.randrange(4))],
        lambda: {random.choice(["a", "sum", ESCAPE]): random_json(random, depth - 1)},
    ]
    return random.choice(kinds if depth else kinds[:4])()


def dump(values: Any) -> str:
    text = json.dumps(values)
    for name, sign in NEITHER.items():
        text = text.replace(f'"{sign}"', name)
    return text


def _entries(values: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) within."""
    keys = values.keys() if isinstance(values, dict) else range(len(values))
    here = [(values, key) for key in keys]
    nested = (values[key] for key in keys if isinstance(values[key], dict | list))
    return here + [entry for inner in nested for entry in _entries(inner)]


def change_somewhere(random: Random, values: Any, change: Callable[[Any], Any]) -> None:
    container, key = random.choice(_entries(values))
    container[key] = change(container[key])


def _edit(victim: Victim, path: Path, change: Callable[[Any], None]) -> list[Path]:
    """Changes a JSON file, or one line of a file of lines."""
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    number = victim.random.randrange(len(lines))
    values = json.loads(lines[number])
    change(values)
    lines[number] = dump(values)
    path.write_text("\n".join(lines) + "\n")
    if path.name in PROGRAM_ONLY and victim.random.random() < 0.5:
        update_checksum(path, lambda text: text)
    return [path]


def update_checksum(path: Path, change: Callable[[str], str]) -> None:
    """Changes the text of a JSON file and puts the right sha256 into a report again."""
    values = json.loads(change(path.read_text()))
    if values.pop("sha256", None):
        rest = {key: value for key, value in values.items() if key != "schema_version"}
        values["sha256"] = sha256(json.dumps(rest).encode()).hexdigest()
    path.write_text(json.dumps(values))


def any_json(victim: Victim) -> list[Path]:
    """JSON of any type anywhere, the whole file among it."""
    path = victim.choose(*JSON)
    if victim.random.random() < 0.1:
        path.write_text(dump(random_json(victim.random)))
        return [path]

    def change(values: Any) -> None:
        change_somewhere(victim.random, values, lambda old: random_json(victim.random))

    return _edit(victim, path, change)


def numbers_as_strings(victim: Victim) -> list[Path]:
    def change(values: Any) -> None:
        numbers = [(c, k) for c, k in _entries(values) if isinstance(c[k], int | float)]
        container, key = victim.random.choice(numbers)
        container[key] = str(container[key])

    return _edit(victim, victim.choose(*JSON), change)


def other_numbers(victim: Victim) -> list[Path]:
    """Numbers that could be, and are not what was written."""

    def change(values: Any) -> None:
        numbers = [(c, k) for c, k in _entries(values) if type(c[k]) in (int, float)]
        container, key = victim.random.choice(numbers)
        container[key] = victim.random.choice([
            container[key] + 1, container[key] * 2, -container[key], float(container[key]), 0, 7,
        ])  # fmt: skip

    return _edit(victim, victim.choose(*JSON), change)


def keys(victim: Victim) -> list[Path]:
    """A key too few, too many, or under another name."""

    def change(values: Any) -> None:
        objects = [values, *(c[k] for c, k in _entries(values) if isinstance(c[k], dict))]
        chosen = victim.random.choice(objects)
        if chosen and victim.random.random() < 0.6:
            chosen.pop(victim.random.choice([*chosen]))
        if victim.random.random() < 0.6:
            name = victim.random.choice(
                ["x", ESCAPE, "seed ", "x" * 1_000_000, "\ud800", "__class__"]
            )
            chosen[name] = random_json(victim.random)

    return _edit(victim, victim.choose(*JSON), change)


def nested(victim: Victim) -> list[Path]:
    """Ten deep, or so deep that a parser would run out of stack."""
    path = victim.choose(*JSON)

    def change(values: Any) -> None:
        def nest(old: Any) -> Any:
            for _ in range(10):
                old = [old] if victim.random.random() < 0.5 else {ESCAPE: old}
            return old

        change_somewhere(victim.random, values, nest)

    if victim.random.random() < 0.5:
        return _edit(victim, path, change)
    path.write_text(
        victim.random.choice(["[", '{"a":']) * victim.random.choice([10, 900, 980, 100_000])
    )
    return [path]


def forge_ablation(victim: Victim) -> list[Path]:
    """Neurons that are not there, or that are none, under a right checksum."""
    path = victim.choose(f"{RUN}/ablations/*.json")
    values = json.loads(path.read_text())
    if victim.random.random() < 0.8:
        values["neurons"] = victim.random.choice([
            [48_000], [-1], [2**63], [0.5], ["0"], [True], [None], [[0]], "0", None, {}, 10**400,
            [10**400],
        ])  # fmt: skip
    else:
        values["error"] = victim.random.choice([None, "kept", ESCAPE, [], {}, 1])
    path.write_text(json.dumps(values))
    update_checksum(path, lambda text: text)
    return [path]


def large_claims(victim: Victim) -> list[Path]:
    """A recipe or data of a size that no memory holds, or that take for ever."""
    path = victim.choose(f"{RUN}/config.json", f"{DATA}/manifest.json")

    def change(values: Any) -> None:
        recipe = values.get("recipe", values.get("spec"))
        field = victim.random.choice(sorted(recipe.keys() & {
            "d_model", "d_ff", "d_sae", "digits", "n_heads", "epochs", "separate_epochs",
            "batch_size", "warmup_steps", "seed", "split_seed", "validate_every", "tasks",
        }))  # fmt: skip
        if field == "tasks":
            recipe[field] = ["sum", "concat", "diff", "max", "min", "swap"]
        elif field == "digits":
            recipe[field] = victim.random.choice([2, 3, 9, 10**9])
        else:
            recipe[field] = victim.random.choice([10**4, 10**6, 10**9, 2**62, 2**64, 10**300])

    return _edit(victim, path, change)


def names_in_config(victim: Victim) -> list[Path]:
    """Text that would reach the terminal, or name something that is not meant to be looked up."""
    path = victim.choose(f"{RUN}/config.json")

    def change(values: Any) -> None:
        texts = [(c, k) for c, k in _entries(values) if isinstance(c[k], str)]
        container, key = victim.random.choice(texts)
        container[key] = victim.random.choice(
            [ESCAPE, "save", "auto", "cuda", "", "\ud800", "\u202e"]
        )

    return _edit(victim, path, change)

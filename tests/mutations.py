"""What can happen to a run directory, or be done to it: a table of mutations, each seeded.

A mutation changes one of a kind of file, and gives the paths that it touched. Those that `forge`
write a file as this program would, its sha256 included, so that the checks behind it are reached.
"""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from toytask_cli.runs import files

GIGABYTE = 1 << 30
ESCAPE = "\x1b]0;owned\x07\x1b[31m\nerror: two lines\r\x9b"
NEITHER = {"NaN": "@NaN@", "Infinity": "@Infinity@", "-Infinity": "@-Infinity@", "1e999": "@1e999@"}
RUN, DATA = "runs/01", "data"


class Victim(NamedTuple):
    """A copy of the tree to mutate, and a tree beside it for links to lead to."""

    place: Path
    outside: Path
    random: Random

    def choose(self, *patterns: str) -> Path:
        """One of the files that match, each pattern being as likely."""
        found = [sorted(filter(_is_small, self.place.glob(pattern))) for pattern in patterns]
        return self.random.choice(self.random.choice([paths for paths in found if paths]))


def _is_small(path: Path) -> bool:
    """Whether the mutations themselves can read it, after another one."""
    return path.is_dir() or (path.is_file() and path.stat().st_size < 2**20)


JSON = (
    f"{RUN}/config.json", f"{RUN}/metrics.jsonl", f"{RUN}/reports/train.json",
    f"{RUN}/ablations/*.json", f"{DATA}/manifest.json",
)  # fmt: skip
TENSORS = (
    f"{RUN}/model.safetensors", f"{RUN}/checkpoint.safetensors",
    f"{RUN}/reports/importance.safetensors", f"{DATA}/tokens.safetensors",
)  # fmt: skip
OVERWRITTEN = (f"{RUN}/reports/[!ti]*.json", f"{RUN}/figures/*.png")
READ = (*JSON, *TENSORS)
FOLDERS = (f"{RUN}/reports", f"{RUN}/ablations", f"{RUN}/figures")


# Bytes


def cut(victim: Victim) -> list[Path]:
    path = victim.choose(*READ)
    content = path.read_bytes()
    path.write_bytes(
        content[: victim.random.choice([0, 1, 8, victim.random.randrange(len(content))])]
    )
    return [path]


def flip_bits(victim: Victim) -> list[Path]:
    path = victim.choose(*READ)
    content = bytearray(path.read_bytes())
    for _ in range(victim.random.choice([1, 1, 1, 8])):
        content[victim.random.randrange(len(content))] ^= 1 << victim.random.randrange(8)
    path.write_bytes(content)
    return [path]


def garble(victim: Victim) -> list[Path]:
    """Bytes put in, taken out or written over, anywhere or at the end."""
    path = victim.choose(*READ)
    content = path.read_bytes()
    start = victim.random.choice([0, len(content), victim.random.randrange(len(content))])
    garbage = victim.random.choice([b"", b"\0", b"\n", b"\xff\xfe", victim.random.randbytes(9)])
    end = start + victim.random.choice([0, len(garbage), 5])
    path.write_bytes(content[:start] + garbage + content[end:])
    return [path]


def recode(victim: Victim) -> list[Path]:
    """Text in another encoding."""
    path = victim.choose(*JSON)
    path.write_bytes(
        path.read_text().encode(victim.random.choice(["utf-16", "utf-32", "utf-8-sig"]))
    )
    return [path]


def pickled(victim: Victim) -> list[Path]:
    """A pickle that, when loaded, writes a file outside."""
    path = victim.choose(*READ)
    content = pickle.dumps(_Bomb(victim.outside / "owned"))
    if victim.random.random() < 0.3:
        torch.save({"weights": _Bomb(victim.outside / "owned")}, path)
    else:
        path.write_bytes(content)
    return [path]


class _Bomb:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


# Files


def swap(victim: Victim) -> list[Path]:
    """Two files of different kinds; two ablations that change names are each still what it says."""
    first = victim.choose(*READ)
    second = victim.choose(*(pattern for pattern in READ if not first.match(pattern)))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    return [first, second]


def rename(victim: Victim) -> list[Path]:
    path = victim.choose(*READ, *FOLDERS)
    name = victim.random.choice(["x", f"x{ESCAPE}{path.suffix}", "x" * 200, f"é{path.suffix}"])
    path.rename(path.with_name(name))
    return [path]


def delete(victim: Victim) -> list[Path]:
    path = victim.choose(*READ, *FOLDERS)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    return [path]


def exchange_kind(victim: Victim) -> list[Path]:
    """A directory or a pipe in place of a file, a file in place of a directory."""
    path = victim.choose(*READ, *FOLDERS, *OVERWRITTEN)
    if path.is_dir():
        shutil.rmtree(path)
        path.write_text("{}")
        return [path]
    path.unlink()
    victim.random.choice([os.mkdir, os.mkfifo])(path)
    return [path]


def link_file(victim: Victim) -> list[Path]:
    """A link to the same outside, to something else there, to nothing, to itself, to a device."""
    path = victim.choose(*READ, *OVERWRITTEN)
    copy = victim.outside / "copy"
    shutil.copy(path, copy)
    path.unlink()
    targets = [copy, copy, victim.outside / "file", victim.outside / "nothing", path, "/dev/zero"]
    path.symlink_to(victim.random.choice(targets))
    return [path]


def link_folder(victim: Victim) -> list[Path]:
    path = victim.choose(*FOLDERS)
    copy = victim.outside / "folder"
    shutil.copytree(path, copy)
    shutil.rmtree(path)
    path.symlink_to(victim.random.choice([copy, copy, victim.outside / "nothing", path]))
    return [path]


def gigabyte_file(victim: Victim) -> list[Path]:
    """A file that says to be of a gigabyte or more, the rest of it a hole."""
    path = victim.choose(*READ)
    os.truncate(path, victim.random.choice([1, 40]) * GIGABYTE)
    return [path]


# Safetensors


def _header(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:start]), content[start:]


def _put_header(path: Path, header: Any, data: bytes, length: int | None = None) -> None:
    text = header if isinstance(header, bytes) else _dump(header).encode()
    length = len(text) if length is None else length
    path.write_bytes(length.to_bytes(8, "little") + text + data)


def header_length(victim: Victim) -> list[Path]:
    """A header that claims to be longer than the file, or than any memory."""
    path = victim.choose(*TENSORS)
    header, data = _header(path)
    lengths = [0, 1, 99_999_999, GIGABYTE, 2**31, 2**63, 2**64 - 1, victim.random.randrange(2**20)]
    _put_header(path, header, data, victim.random.choice(lengths))
    return [path]


def header_claims(victim: Victim) -> list[Path]:
    """A tensor that claims another type, shape, place or name, a gigabyte among them."""
    path = victim.choose(*TENSORS)
    header, data = _header(path)
    name = victim.random.choice([key for key in header if key != "__metadata__"])
    tensor = header[name]
    claims: list[Callable[[], Any]] = [
        lambda: tensor.update(dtype=victim.random.choice(["F16", "I64", "F8_E4M3", "F4", "X", 3])),
        lambda: tensor.update(shape=victim.random.choice([[GIGABYTE], [2**63], [-1], [], "x"])),
        lambda: tensor.update(
            data_offsets=victim.random.choice([[0, GIGABYTE], [9, 3], [0], None])
        ),
        lambda: tensor.update(shape=[2**28], data_offsets=[0, GIGABYTE]),
        lambda: header.update({ESCAPE: header.pop(name)}),
        lambda: header.update(__metadata__=random_json(victim.random)),
        lambda: header.update({name: random_json(victim.random)}),
        lambda: header["__metadata__"].pop("sha256", None),
    ]
    victim.random.choice(claims)()
    _put_header(path, header, data)
    if victim.random.random() < 0.2:
        os.truncate(path, 2 * GIGABYTE)
    return [path]


def deep_header(victim: Victim) -> list[Path]:
    path = victim.choose(*TENSORS)
    _, data = _header(path)
    depth = victim.random.choice([10, 100_000])
    text = b"[" * depth + b"]" * depth
    _put_header(path, victim.random.choice([text, b'{"a":' + text + b"}"]), data)
    return [path]


def _forge(path: Path, change: Callable[[dict[str, Tensor]], None]) -> list[Path]:
    """Writes the tensors changed, and everything bound to them as this program would."""
    tensors, metadata = load_file(path), files.read_metadata(path, "")
    change(tensors)
    before = files.file_sha256(path)
    files.write_tensors(path, tensors, metadata)
    for other in filter(_is_small, path.parent.parent.rglob("*.json")):
        with suppress(OSError, ValueError, AttributeError):  # it may be mutated already
            _reseal(other, lambda text: text.replace(before, files.file_sha256(path)))
    return [path]


def _choose_name(victim: Victim, tensors: dict[str, Tensor]) -> str:
    return victim.random.choice(
        [n for n in tensors if tensors[n].is_floating_point()] or [*tensors]
    )


def forge_numbers(victim: Victim) -> list[Path]:
    """A number that is NaN or infinite, the file sealed anew."""

    def change(tensors: dict[str, Tensor]) -> None:
        flat = tensors[_choose_name(victim, tensors)].view(-1)
        flat[victim.random.randrange(len(flat))] = victim.random.choice([1, -1]) * torch.inf
        flat[0] = victim.random.choice([torch.nan, torch.inf])

    return _forge(victim.choose(*TENSORS[:3]), change)


def forge_overflow(victim: Victim) -> list[Path]:
    """Finite weights of which a pass through the model makes infinities."""

    def change(tensors: dict[str, Tensor]) -> None:
        some = victim.random.sample(sorted(tensors), victim.random.choice([1, 4, len(tensors)]))
        for name in some:
            tensors[name] = torch.full_like(
                tensors[name], victim.random.choice([3e38, -1e30, 1e20])
            )

    return _forge(victim.choose(TENSORS[0]), change)


def forge_shape(victim: Victim) -> list[Path]:
    """A tensor of another shape that holds as many numbers, or of more or fewer, or of none."""

    def change(tensors: dict[str, Tensor]) -> None:
        name = _choose_name(victim, tensors)
        tensor = tensors[name]
        shapes = [
            tensor.reshape(-1), tensor[None], tensor.reshape(-1)[:1], tensor.new_empty(0),
            torch.cat([tensor.reshape(-1)] * 2), tensor.sum(), tensor[..., None],
        ]  # fmt: skip
        tensors[name] = victim.random.choice([s for s in shapes if s.shape != tensor.shape])

    return _forge(victim.choose(*TENSORS), change)


def forge_type(victim: Victim) -> list[Path]:
    def change(tensors: dict[str, Tensor]) -> None:
        name = _choose_name(victim, tensors)
        types = [torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.bool, torch.uint8]
        types = [*types, torch.float8_e4m3fn, torch.complex64]
        dtype = victim.random.choice([t for t in types if t != tensors[name].dtype])
        tensors[name] = tensors[name].to(dtype)

    return _forge(victim.choose(*TENSORS), change)


def forge_names(victim: Victim) -> list[Path]:
    """A tensor too few, too many, or under a name that a terminal would obey."""

    def change(tensors: dict[str, Tensor]) -> None:
        name = _choose_name(victim, tensors)
        tensor = tensors[name].clone()
        if victim.random.random() < 0.7:
            del tensors[name]
        if victim.random.random() < 0.7 or name in tensors:
            tensors[victim.random.choice([ESCAPE, "x" * 10_000, f"{name}.{name}"])] = tensor

    return _forge(victim.choose(*TENSORS), change)


def forge_progress(victim: Victim) -> list[Path]:
    """Another state of training beside the tensors of a checkpoint."""
    path = victim.choose(TENSORS[1])
    tensors, metadata = load_file(path), files.read_metadata(path, "")
    progress = json.loads(metadata["progress"])
    if victim.random.random() < 0.3:
        metadata["progress"] = _dump(random_json(victim.random))
    else:
        _change_somewhere(victim.random, progress, lambda old: random_json(victim.random))
        progress["epoch"] = victim.random.choice([0, -1, "3", 2.0, True, 10**400])
        metadata["progress"] = _dump(progress)
    files.write_tensors(path, tensors, metadata)
    return [path]


# JSON


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


def _dump(values: Any) -> str:
    text = json.dumps(values)
    for name, sign in NEITHER.items():
        text = text.replace(f'"{sign}"', name)
    return text


def _places(values: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) within."""
    keys = values.keys() if isinstance(values, dict) else range(len(values))
    here = [(values, key) for key in keys]
    nested = (values[key] for key in keys if isinstance(values[key], dict | list))
    return here + [place for inner in nested for place in _places(inner)]


def _change_somewhere(random: Random, values: Any, change: Callable[[Any], Any]) -> None:
    container, key = random.choice(_places(values))
    container[key] = change(container[key])


def _edit(victim: Victim, path: Path, change: Callable[[Any], None]) -> list[Path]:
    """Changes a JSON file, or one line of a file of lines."""
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    number = victim.random.randrange(len(lines))
    values = json.loads(lines[number])
    change(values)
    lines[number] = _dump(values)
    path.write_text("\n".join(lines) + "\n")
    if path.name == "train.json" and victim.random.random() < 0.5:
        _reseal(path, lambda text: text)
    return [path]


def _reseal(path: Path, change: Callable[[str], str]) -> None:
    """Changes the text of a JSON file and puts the right sha256 into a report again."""
    values = json.loads(change(path.read_text()))
    if path.name != "manifest.json" and values.pop("sha256", None):
        rest = {key: value for key, value in values.items() if key != "schema_version"}
        values["sha256"] = sha256(json.dumps(rest).encode()).hexdigest()
    path.write_text(json.dumps(values))


def any_json(victim: Victim) -> list[Path]:
    """JSON of any type in any place, the whole file among them."""
    path = victim.choose(*JSON)
    if victim.random.random() < 0.1:
        path.write_text(_dump(random_json(victim.random)))
        return [path]

    def change(values: Any) -> None:
        _change_somewhere(victim.random, values, lambda old: random_json(victim.random))

    return _edit(victim, path, change)


def numbers_as_strings(victim: Victim) -> list[Path]:
    def change(values: Any) -> None:
        numbers = [(c, k) for c, k in _places(values) if isinstance(c[k], int | float)]
        container, key = victim.random.choice(numbers)
        container[key] = str(container[key])

    return _edit(victim, victim.choose(*JSON), change)


def other_numbers(victim: Victim) -> list[Path]:
    """Numbers that could be, and are not what was written."""

    def change(values: Any) -> None:
        numbers = [(c, k) for c, k in _places(values) if type(c[k]) in (int, float)]
        container, key = victim.random.choice(numbers)
        container[key] = victim.random.choice([
            container[key] + 1, container[key] * 2, -container[key], float(container[key]), 0, 7,
        ])  # fmt: skip

    return _edit(victim, victim.choose(*JSON), change)


def keys(victim: Victim) -> list[Path]:
    """A key too few, too many, or under another name."""

    def change(values: Any) -> None:
        objects = [values, *(c[k] for c, k in _places(values) if isinstance(c[k], dict))]
        found = victim.random.choice(objects)
        if found and victim.random.random() < 0.6:
            found.pop(victim.random.choice([*found]))
        if victim.random.random() < 0.6:
            name = victim.random.choice(
                ["x", ESCAPE, "seed ", "x" * 1_000_000, "\ud800", "__class__"]
            )
            found[name] = random_json(victim.random)

    return _edit(victim, victim.choose(*JSON), change)


def nested(victim: Victim) -> list[Path]:
    """Ten deep, or so deep that a parser would run out of stack."""
    path = victim.choose(*JSON)

    def change(values: Any) -> None:
        def nest(old: Any) -> Any:
            for _ in range(10):
                old = [old] if victim.random.random() < 0.5 else {ESCAPE: old}
            return old

        _change_somewhere(victim.random, values, nest)

    if victim.random.random() < 0.5:
        return _edit(victim, path, change)
    path.write_text(
        victim.random.choice(["[", '{"a":']) * victim.random.choice([10, 900, 980, 100_000])
    )
    return [path]


def forge_ablation(victim: Victim) -> list[Path]:
    """Neurons that are not there, or that are none, the file sealed anew."""
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
    _reseal(path, lambda text: text)
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
        texts = [(c, k) for c, k in _places(values) if isinstance(c[k], str)]
        container, key = victim.random.choice(texts)
        container[key] = victim.random.choice(
            [ESCAPE, "save", "auto", "cuda", "", "\ud800", "\u202e"]
        )

    return _edit(victim, path, change)


MUTATIONS: dict[str, Callable[[Victim], list[Path]]] = {
    "cut": cut,
    "bits flipped": flip_bits,
    "bytes garbled": garble,
    "another encoding": recode,
    "a pickle": pickled,
    "swapped": swap,
    "renamed": rename,
    "deleted": delete,
    "directory, pipe or file instead": exchange_kind,
    "file linked outside": link_file,
    "folder linked outside": link_folder,
    "file of a gigabyte": gigabyte_file,
    "header length": header_length,
    "header claims": header_claims,
    "deep header": deep_header,
    "NaN and Inf, sealed": forge_numbers,
    "weights that overflow, sealed": forge_overflow,
    "wrong shape, sealed": forge_shape,
    "wrong type, sealed": forge_type,
    "wrong names, sealed": forge_names,
    "wrong progress, sealed": forge_progress,
    "any JSON anywhere": any_json,
    "numbers as strings": numbers_as_strings,
    "other numbers": other_numbers,
    "keys": keys,
    "nested deep": nested,
    "ids out of range, sealed": forge_ablation,
    "sizes of no memory": large_claims,
    "text in the configuration": names_in_config,
}

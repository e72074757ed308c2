"""What can happen to a run directory, or be done to it: a table of mutations, each seeded.

A mutation changes one of a kind of file, and gives the paths that it touched.
"""

from collections.abc import Callable
from pathlib import Path

from mutations import raw, tensors, texts
from mutations.victim import Victim

MUTATIONS: dict[str, Callable[[Victim], list[Path]]] = {
    "cut": raw.cut,
    "bits flipped": raw.flip_bits,
    "bytes garbled": raw.garble,
    "another encoding": raw.recode,
    "a pickle": raw.pickled,
    "swapped": raw.swap,
    "renamed": raw.rename,
    "deleted": raw.delete,
    "directory, pipe or file instead": raw.exchange_kind,
    "file linked outside": raw.link_file,
    "folder linked outside": raw.link_folder,
    "file of a gigabyte": raw.gigabyte_file,
    "header length": tensors.header_length,
    "header claims": tensors.header_claims,
    "deep header": tensors.deep_header,
    "NaN and Inf, with checksum": tensors.forge_numbers,
    "weights that overflow, with checksum": tensors.forge_overflow,
    "wrong shape, with checksum": tensors.forge_shape,
    "wrong type, with checksum": tensors.forge_type,
    "wrong names, with checksum": tensors.forge_names,
    "wrong progress, with checksum": tensors.forge_progress,
    "any JSON anywhere": texts.any_json,
    "numbers as strings": texts.numbers_as_strings,
    "other numbers": texts.other_numbers,
    "keys": texts.keys,
    "nested deep": texts.nested,
    "ids out of range, with checksum": texts.forge_ablation,
    "sizes of no memory": texts.large_claims,
    "text in the configuration": texts.names_in_config,
}

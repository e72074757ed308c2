"""Random generators: one seed gives a stream of its own to each purpose."""

from hashlib import blake2b

import torch


def generator(seed: int, purpose: str) -> torch.Generator:
    """Return a generator on the CPU whose stream is independent of the other purposes' streams."""
    digest = blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest) >> 1)

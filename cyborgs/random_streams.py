"""Every random number comes from a stream named by what it is for, never from a global state.

So a sample does not depend on which worker made it, nor a run on where it was resumed.
"""

import hashlib

import numpy as np


def stream_seed(*name: int | str) -> int:
    """A 63-bit seed for the stream of that name, such as `("views", run_seed, epoch, row, view)`."""
    digest = hashlib.blake2b(repr(name).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def stream(*name: int | str) -> np.random.Generator:
    """The random stream of that name, from its start."""
    return np.random.Generator(np.random.Philox(stream_seed(*name)))

"""Random numbers that depend on (seed, epoch, cell, stream and index) only.

A cell gets the same targets, hidden phenotypes and dropped genes in any batch, process or worker, because each number
is a hash of its key and not drawn from a sequential generator.

References
----------
The hash is the finaliser of SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
OOPSLA 2014, doi:10.1145/2660193.2660195.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MUL1 = np.uint64(0xBF58476D1CE4E5B9)
_MUL2 = np.uint64(0x94D049BB133111EB)


def scramble(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix 64 bits so that each bit of the result depends on each bit of `z`."""
    z = z + _GAMMA
    z ^= z >> np.uint64(30)
    z *= _MUL1
    z ^= z >> np.uint64(27)
    z *= _MUL2
    z ^= z >> np.uint64(31)
    return z


def cell_keys(seed: int, epoch: int, cells: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Compute a key per cell, to be passed to `uniform`; same shape as `cells`."""
    root = scramble(np.array([seed], dtype=np.uint64))
    root = scramble(root ^ np.uint64(epoch))
    return scramble(root ^ cells.astype(np.uint64))


def uniform(keys: NDArray[np.uint64], stream: int, index: NDArray[np.integer] | int = 0) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1).

    Parameters
    ----------
    keys
        Keys from `cell_keys`.
    stream
        Purpose of the number; different streams are independent.
    index
        Index of the number within the stream; broadcast against `keys`.
    """
    counter = np.asarray(index, dtype=np.uint64) + (np.uint64(stream) << np.uint64(40))
    bits = scramble(keys ^ scramble(np.atleast_1d(counter))) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53

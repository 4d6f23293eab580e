"""A key/value cache with room for the tokens still to come.

Knows nothing of sampling. Different from the cache of transformers, which is copied whole into new memory for every token: on a
processor that copying, not the model, is most of the time of sampling. Here each token is written into its place. Not for
training: autograd forbids writing in place.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):
    """The keys and values of one layer, each row repeated, in memory that has room for more tokens."""

    def __init__(self, filled: Any, *, repeats: int, room: int) -> None:
        super().__init__()
        self.lazy_initialization(filled.keys, filled.values)
        self._length = filled.keys.shape[-2]
        self._keys = _with_room(filled.keys, repeats, room)
        self._values = _with_room(filled.values, repeats, room)
        self._show()

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write the keys and values of new tokens; all keys and values so far."""
        end = self._length + key_states.shape[-2]
        self._keys[:, :, self._length : end] = key_states
        self._values[:, :, self._length : end] = value_states
        self._length = end
        self._show()
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only these rows."""
        self._keys, self._values = self._keys[indices], self._values[indices]
        self._show()

    def _show(self) -> None:
        self.keys = self._keys[:, :, : self._length]
        self.values = self._values[:, :, : self._length]


def _with_room(states: Tensor, repeats: int, room: int) -> Tensor:
    rows, heads, length, width = states.shape
    buffer = states.new_empty(rows * repeats, heads, length + room, width)
    buffer[:, :, :length] = states.repeat_interleave(repeats, dim=0)
    return buffer


def make_room(cache: Any, *, repeats: int, room: int) -> Any:
    """Repeat each row of a freshly filled cache and leave room for `room` more tokens.

    Args:
        cache: A `DynamicCache` of full attention layers; changed in place and returned.
        repeats: How often each row is wanted.
        room: Tokens that will be added.
    """
    cache.layers = [RoomyLayer(layer, repeats=repeats, room=room) for layer in cache.layers]
    return cache

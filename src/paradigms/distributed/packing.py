"""What goes over the wire: tensors of any dtype as bytes, one after the other, behind a header of fixed size.

| header: numbers, then an error's text | first tensor | second | ... | 0 up to a multiple of ALIGN |
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

HEADER, ALIGN = 512, 16  # bytes
HEAD = struct.Struct("<qqdddddq")  # the numbers of a `Header`, and the length of its error


class Header(NamedTuple):
    """A header: call and rows; seconds of this call in the model and before it outside, of waiting in the last one.

    check: a number about equal on all ranks. note: what the rank says of its answers.
    """

    call: int
    rows: int
    model: float
    outside: float
    waited: float
    check: float
    note: float
    error: str = ""

    @property
    def place(self) -> str:
        """Where the rank is."""
        return f"call {self.call} of {self.rows} rows"

    def pack(self) -> bytes:
        """The header as it is sent."""
        error = self.error.encode()[: HEADER - HEAD.size]
        return HEAD.pack(*self[:7], len(error)) + error

    @classmethod
    def read(cls, sent: bytes) -> Header:
        """A header that was received."""
        *numbers, end = HEAD.unpack_from(sent)
        return cls._make([*numbers, sent[HEAD.size : HEAD.size + end].decode(errors="replace")])


def pack_tensors(tensors: Sequence[Tensor], size: int, device: torch.device, head: bytes = b"") -> Tensor:
    """Bytes (size,), a multiple of ALIGN, of a header and tensors one after the other."""
    out = torch.zeros(align_offset(size), dtype=torch.uint8, device=device)
    first = HEADER if head else 0
    if head:
        out[: len(head)] = torch.frombuffer(bytearray(head), dtype=torch.uint8).to(device)
    for v in tensors:
        out[first : first + tensor_bytes(v)] = v.detach().contiguous().reshape(-1).view(torch.uint8).to(device)
        first += tensor_bytes(v)
    return out


def unpack_tensors(sent: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of the shapes, dtypes and devices of `like` out of bytes."""
    made, first = [], 0
    for v in like:
        piece = sent[first : first + tensor_bytes(v)].clone()  # of its own, for its numbers must be aligned
        made.append(piece.view(v.dtype).reshape(v.shape).to(v.device))
        first += tensor_bytes(v)
    return made


def align_offset(size: int) -> int:
    """`size` or the next multiple of ALIGN, so that numbers of any dtype can lie behind it."""
    return -(-size // ALIGN) * ALIGN


def tensor_bytes(v: Tensor) -> int:
    """Bytes of a tensor."""
    return v.numel() * v.element_size()


def error_line(error: BaseException) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"

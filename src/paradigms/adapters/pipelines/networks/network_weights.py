"""The weights of a network, which it may change by itself: copied where they are few, and put back."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from ..state.snapshot import overwrite, unequal
from .network_call import tensor_version

MOST = 1 << 25  # numbers of weights that are copied, once a loop. Chosen by hand: 128 MiB of float32


class NetworkWeights:
    """The weights of a network at one moment; copied: whether their content is kept, where it is at most MOST."""

    def __init__(self, network: nn.Module, copied: bool) -> None:
        kept = [*network.parameters()]
        copied = copied and sum(p.numel() for p in kept) <= MOST
        self.kept = [(p, tensor_version(p), p.detach().clone() if copied and not p.is_meta else None) for p in kept]

    def changed(self) -> Iterator[nn.Parameter]:
        """Those that were changed in place since, by torch's count."""
        yield from (p for p, version, _ in self.kept if version is not None and p._version != version)

    def restore(self) -> None:
        """Puts back the content of those that were copied."""
        for p, _, copy in self.kept:
            if copy is not None and unequal(p, copy):
                overwrite(p, copy)

"""The fields of a network's modules, kept and compared: a callback may change them, or a batch that failed."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


class ModuleFields:
    """What the modules of a network hold: their fields, and how often their tensors were changed in place.

    What is written to a parameter's `.data` is not seen.
    """

    def __init__(self, network: nn.Module) -> None:
        own = [vars(module) for module in network.modules()]
        inner = [v for fields in own for v in fields.values() if type(v) in (dict, list, OrderedDict)]
        self.kept = [(v, v.copy()) for v in (*own, *inner)]
        self.tensors = [t for t in (*network.parameters(), *network.buffers()) if not t.is_inference()]
        self.versions = [t._version for t in self.tensors]

    def same(self) -> bool:
        """Whether all is as it was."""
        try:
            return self.versions == [t._version for t in self.tensors] and all(v == w for v, w in self.kept)
        except (RuntimeError, ValueError):  # another tensor or array is in the place of one
            return False

    def restore(self) -> None:
        """Puts the fields back, not the content of tensors."""
        for v, w in self.kept:
            if isinstance(v, list):
                v[:] = w
            else:
                v.clear()
                v.update(w)

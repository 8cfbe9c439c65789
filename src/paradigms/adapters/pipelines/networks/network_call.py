"""One call that a pipeline makes of a network: what the network is told, leaf by leaf, so that two can be compared.

    real(network, *args, **kwargs) = real(network, *unflatten(leaves))

The sample is the first floating argument of more than one axis. Some networks take and give lists of one tensor a
sample: such a list is one leaf, `ListLeaf`, and one leaf of what they say, `Rows`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import register_pytree_node, tree_flatten, tree_map, tree_unflatten

from ..code.rewrite import UnparallelError
from ..state.object_contents import content_kind


class CarriedError(BaseException):
    """A StopIteration of a network, which a generator of ours would turn into another error; args[0] is that."""


class ListLeaf(list):  # type: ignore[type-arg]
    """One tensor a sample, as some networks take them; a leaf."""


@dataclass(frozen=True)
class RowArguments:
    """A list that a network gave, of one tensor a sample, held as one tensor."""

    tensor: Tensor


register_pytree_node(RowArguments, lambda r: ([r.tensor], None), lambda leaves, _: RowArguments(*leaves))


@dataclass
class NetworkCall:
    """One call of a network as the pipeline made it: its leaves, and the sample's among them.

    versions: of tensors, so that one which is changed later is found.
    """

    network: nn.Module
    real: Callable[..., Any]
    leaves: list[Any]
    spec: Any
    sample: int
    versions: list[int | None]

    @classmethod
    def of(
        cls, network: nn.Module, real: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> NetworkCall:
        """The call, with its own copy of containers and of the sample."""
        first = next(iter([*args, *kwargs.values()]), None)
        if is_tensor_list(first):
            args, kwargs = tuple(map(as_list_leaf, args)), {k: as_list_leaf(v) for k, v in kwargs.items()}
        leaves, spec = tree_flatten((args, kwargs))
        refuse_opaque(leaves, f"{type(network).__name__} is told", ("parts", "cache", "generator"))
        sample = next((i for i, v in enumerate(leaves) if is_sample(v)), -1)
        if sample >= 0:
            v = leaves[sample]
            leaves[sample] = ListLeaf(w.clone() for w in v) if isinstance(v, ListLeaf) else v.clone()
        return cls(network, real, leaves, spec, sample, [tensor_version(v) for v in leaves])

    @property
    def x(self) -> Tensor | None:
        """The sample (G B, ...), the first floating argument with more than one axis."""
        v = self.leaves[self.sample] if self.sample >= 0 else None
        return torch.stack(v) if isinstance(v, ListLeaf) else v

    @property
    def key(self) -> tuple[Any, ...]:
        """The network, and the form of what it is told."""
        return id(self.network), str(self.spec), tuple(getattr(v, "shape", None) for v in self.leaves)

    def alike(self, other: NetworkCall) -> bool:
        """Whether both could be rows of one batch, or one the other moved: the same but for the content of tensors."""
        if self.network is not other.network or self.spec != other.spec:
            return False
        return all(same_kind(v, w) for v, w in zip(self.leaves, other.leaves, strict=True))

    def equals(self, other: NetworkCall, but_sample: bool = False) -> bool:
        """Whether the network is told the same, bit for bit."""
        return self.alike(other) and all(
            (but_sample and i == self.sample) or same_leaf(v, w)
            for i, (v, w) in enumerate(zip(self.leaves, other.leaves, strict=True))
        )

    def intact(self) -> bool:
        """Whether no argument was changed since."""
        return all(v is None or w._version == v for v, w in zip(self.versions, self.leaves, strict=True))

    def run(self, leaves: list[Any] | None = None) -> Any:
        """What the network says."""
        leaves = [list(v) if isinstance(v, ListLeaf) else v for v in (self.leaves if leaves is None else leaves)]
        args, kwargs = tree_unflatten(leaves, self.spec)
        try:
            said = self.real(self.network, *args, **kwargs)
        except StopIteration as error:
            raise CarriedError(error) from None
        refuse_opaque(tree_flatten(said)[0], f"{type(self.network).__name__} answers with")
        if self.sample < 0 or not isinstance(self.leaves[self.sample], ListLeaf):
            return said
        return tree_map(lambda v: RowArguments(torch.stack(v)) if is_even_list(v) else v, said, is_leaf=is_tensor_list)


def refuse_opaque(leaves: list[Any], what: str, known: tuple[str, ...] = ()) -> None:
    """Raises UnparallelError for an object whose content may be another in each step; known: kinds that are none."""
    for v in leaves:
        if content_kind(type(v)) not in (None, "tensor", *known) and not isinstance(v, ListLeaf):
            raise UnparallelError(
                f"{what} an object ({type(v).__name__}), whose content is not known; needed: tensors, or tuples, "
                "lists, dicts or outputs of diffusers that hold them"
            )


def is_tensor_list(v: Any) -> bool:
    """Whether v is a list of tensors."""
    return isinstance(v, list) and len(v) > 0 and all(isinstance(w, Tensor) for w in v)


def is_even_list(v: Any) -> bool:
    """Whether v is a list of tensors of one shape."""
    return is_tensor_list(v) and len({w.shape for w in v}) == 1


def as_list_leaf(v: Any) -> Any:
    """v as a leaf where it is a list of tensors."""
    return ListLeaf(v) if is_tensor_list(v) else v


def is_sample(v: Any) -> bool:
    """Whether a leaf can be the state that a network is shown."""
    if isinstance(v, ListLeaf):
        return is_even_list(v) and v[0].is_floating_point()
    return isinstance(v, Tensor) and v.is_floating_point() and v.ndim > 1


def tensor_version(v: Any) -> int | None:
    """How often a tensor was changed in place, None where that is not counted."""
    return v._version if isinstance(v, Tensor) and not v.is_inference() else None


def same_kind(v: Any, w: Any) -> bool:
    """Whether two leaves are tensors of one shape, times, or equal."""
    if isinstance(v, ListLeaf) and isinstance(w, ListLeaf):
        return len(v) == len(w) and all(map(same_kind, v, w))
    if isinstance(v, Tensor) and isinstance(w, Tensor):
        return v.shape == w.shape and v.dtype == w.dtype and v.device == w.device
    return type(v) is type(w) and (v is w or bool(v == w))


def same_leaf(v: Any, w: Any) -> bool:
    """Whether two leaves are equal bit for bit."""
    if isinstance(v, ListLeaf):
        return all(map(same_leaf, v, w))
    if isinstance(v, Tensor):
        return v is w or torch.equal(v, w)
    return v is w or bool(v == w)

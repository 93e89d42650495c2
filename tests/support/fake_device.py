"""A device that is none: tensors that say they are elsewhere, and are held on the CPU.

Without a GPU a test can so ask what PyTorch would ask of code that runs on one. Inside ``with
fake_device():`` tensors made by ``on_device`` or with ``device=DEVICE`` are computed with as ever,
and what PyTorch refuses is refused:

- a CPU tensor that has a dimension, beside one of the device (one without a dimension is taken for
  a number; an index may be on the CPU);
- a generator of the CPU for numbers on the device;
- data of the device as NumPy array.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

# Of no other device does a PyTorch for the CPU bring all that it takes. `OnDevice` denies it, so
# that nobody thinks there were no values.
DEVICE = torch.device("meta")

aten = torch.ops.aten
MOVES = {aten._to_copy.default, aten.copy_.default}
INDEXED = {aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default}


class OnDevice(Tensor):
    """A tensor on ``DEVICE``; its numbers are in ``held``."""

    held: Tensor
    is_meta = False

    @staticmethod
    def __new__(cls, held: Tensor) -> OnDevice:
        made: OnDevice = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), dtype=held.dtype, device=DEVICE
        )
        made.held = held
        return made

    def tolist(self) -> Any:
        return self.held.tolist()

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OnDevice({self.held!r})"

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(func, args, kwargs or {})


@contextmanager
def fake_device() -> Iterator[None]:
    """Serve calls that ask for a tensor on ``DEVICE``."""
    with _Constants(), _Dispatch():  # type: ignore[no-untyped-call]
        yield


def on_device(x: Any) -> Any:
    """Move a tensor, or those in a structure, with their need for a gradient."""

    def move(t: Any) -> Any:
        if not isinstance(t, Tensor):
            return t
        return OnDevice(t.detach().clone()).requires_grad_(t.requires_grad)

    return tree_map(move, x)


def back(x: Any) -> Any:
    """Move to the CPU again; raise if a tensor is there already."""

    def move(t: Any) -> Any:
        if isinstance(t, Tensor) and not isinstance(t, OnDevice):
            raise AssertionError(f"expected on the device, found on the CPU: {t}")
        return t.held if isinstance(t, OnDevice) else t

    return tree_map(move, x)


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Constants(TorchFunctionMode):
    """Constants and lists of indices are made on ``DEVICE`` before anyone is asked."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        constant = func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], Tensor)
        if constant and torch.device(kwargs.get("device") or "cpu") == DEVICE:
            del kwargs["device"]
            return OnDevice(func(*args, **kwargs))
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            known = tuple(torch.tensor(i) if isinstance(i, list) else i for i in index)
            args = (args[0], known if isinstance(args[1], tuple) else known[0], *args[2:])
        return func(*args, **kwargs)


def _run(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    if any(x.is_meta for x in tensors):
        raise AssertionError(f"a tensor has lost its values on the way to {func}")
    asked = kwargs.get("device")
    here = any(isinstance(x, OnDevice) for x in tensors)
    if func is aten.copy_.default:
        here = isinstance(args[0], OnDevice)
    elif here and func not in MOVES:
        beside = tensors
        if func in INDEXED and isinstance(args[0], OnDevice):
            beside = [x for x in tree_leaves(args[2:]) if isinstance(x, Tensor)]
        if any(not isinstance(x, OnDevice) and x.ndim for x in beside):
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{DEVICE} and cpu! ({func})"
            )
    if asked is not None:
        here = torch.device(asked) == DEVICE
    generator = kwargs.get("generator")
    if here and generator is not None and generator.device.type == "cpu":
        raise RuntimeError(
            f"Expected a '{DEVICE.type}' device type for generator but found 'cpu' ({func})"
        )
    plain = dict(kwargs) if asked is None else {**kwargs, "device": "cpu"}
    result = func(*tree_map(_held, tuple(args)), **tree_map(_held, plain))
    if func._schema.name.endswith("_"):  # in place: the very tensor
        return args[0]
    if "out" in kwargs:
        return kwargs["out"]
    return tree_map(lambda x: OnDevice(x) if here and isinstance(x, Tensor) else x, result)


def _held(x: Any) -> Any:
    return x.held if isinstance(x, OnDevice) else x

"""What the functions of the package ask of their arguments, each check written once."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

Generator = torch.Generator | Sequence[torch.Generator] | None
"""Source of randomness: one for all rows, one for each row in order, or PyTorch's global one."""


def check_logits(z: Tensor, dim: int = -1, name: str = "logits") -> None:
    """Raise unless z is a floating tensor with classes along ``dim``."""
    if not isinstance(z, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor, got {shown(z)}; wrap them in torch.tensor(...)"
        )
    if not z.is_floating_point():
        raise TypeError(
            f"{name} must have a floating dtype, got {z.dtype} with values {some_values(z)}; "
            "convert them with z.float()"
        )
    check_dense(z, name)
    shape = tuple(z.shape)
    if z.ndim == 0:
        raise ValueError(
            f"{name} need a dimension that holds the classes, got the scalar {z.item()}; "
            "reshape(1) makes it a row of one"
        )
    if isinstance(dim, bool) or not isinstance(dim, int):
        raise TypeError(f"dim must be an int such as -1, got {shown(dim)}")
    if not -z.ndim <= dim < z.ndim:
        raise ValueError(
            f"dim must lie in [{-z.ndim}, {z.ndim - 1}] for {name} of shape {shape}, got {dim}"
        )
    if z.shape[dim] == 0:
        raise ValueError(
            f"dimension {dim} of the {name} is empty (shape {shape}); "
            "a softmax needs at least one class"
        )


def check_dims(z: Tensor, dims: Any) -> tuple[int, ...]:
    """Return several dimensions of a tensor, each counted from the front, in the order given."""
    for dim in dims if isinstance(dims, tuple) else (dims,):
        check_logits(z, dim)
    if dims == ():
        raise ValueError("dim must name a dimension, got (); -1 is the last")
    counted = tuple(dim % z.ndim for dim in dims)
    if len(set(counted)) < len(counted):
        raise ValueError(f"dim must name each dimension once, got {shown(dims)}")
    return counted


def check_weights(weights: Tensor, z: Tensor) -> Tensor:
    """Return weights in the shape of z, detached; raise unless each is finite and not negative."""
    if not isinstance(weights, Tensor) or weights.is_complex():
        raise TypeError(
            f"weights must be a tensor of real numbers or of booleans, got {shown(weights)}"
        )
    check_dense(weights, "weights")
    if not broadcasts_to(weights.shape, z.shape):
        raise ValueError(
            f"weights of shape {tuple(weights.shape)} do not broadcast to logits of shape "
            f"{tuple(z.shape)}; give one for each class"
        )
    weights = weights.detach()
    if weights.is_floating_point():
        weights = at_least_float32(weights)
    wrong = ~((weights >= 0) & (weights < torch.inf))
    if anywhere(wrong):
        raise ValueError(
            f"weights must be >= 0 and finite, got {some_values(weights[wrong])}; "
            "0 leaves a class out"
        )
    return weights.expand(z.shape)


def extremes(x: Tensor) -> tuple[float, float]:
    """Return the smallest number and the largest, nan if there is one; 0 if none can be seen."""
    if x.is_meta or x.numel() == 0:
        return 0.0, 0.0
    if x.numel() == 1:
        only = x.item()
        return only, only
    least, most = torch.aminmax(x)
    return least.item(), most.item()


def anywhere(condition: Tensor) -> bool:
    """Whether it is true of any number; on the meta device, where there are none, it never is."""
    return not condition.is_meta and bool(condition.any())


def check_rows(logits: Tensor) -> Tensor:
    """Return the largest of each row; raise unless every row of logits has a softmax."""
    check_row_dtype(logits)
    largest = logits.amax(-1)
    check_largest(logits, largest)
    return largest


def check_row_dtype(logits: Tensor) -> None:
    check_logits(logits)
    if logits.dtype.itemsize < 2:
        raise TypeError(
            f"logits in {logits.dtype} have too few digits to be compared, and may have no -inf; "
            "convert them with z.float()"
        )


def check_largest(logits: Tensor, largest: Tensor) -> None:
    """Raise unless every row has a softmax, of which its largest logit says it all.

    It is nan if there is one, ``+inf`` if there is one, ``-inf`` if nothing else is there.
    """
    least, most = extremes(largest)
    if not -torch.finfo(logits.dtype).max <= least <= most <= torch.finfo(logits.dtype).max:
        row = logits[~largest.isfinite()][0]
        ailment, remedy = (
            ("hold nan", "look for the operation before that made it")
            if bool(row.isnan().any())
            else ("hold +inf", "subtract what overflowed, or compute the logits in float32")
            if bool((row == torch.inf).any())
            else ("are all -inf", "a mask must leave at least one token")
        )
        raise ValueError(f"logits of a row {ailment}: {some_values(row)}; {remedy}")


def check_temperature(
    temperature: float | Tensor, z: Tensor, dim: int = -1, *, zero: bool = False
) -> Tensor:
    """Return T in the dtype of the arithmetic, such that ``z / T`` divides each row by its own.

    It is where z is, wherever it came from.

    T is a number, or a tensor that broadcasts to the shape of the rows, that of ``z`` without
    ``dim``. It is positive, finite and representable in that dtype; with ``zero`` it may be 0 too.
    """
    dtype = torch.float32 if z.dtype.itemsize < 4 else z.dtype
    # A subnormal number may be flushed to zero, and a larger one rounds to infinity.
    least, most = torch.finfo(dtype).tiny, torch.finfo(dtype).max
    if not isinstance(temperature, Tensor):
        number = check_number(temperature, "temperature", 0.7)
        if not (least <= number <= most or (zero and number == 0)):
            raise _out_of_range(shown(temperature), number > 0, dtype, zero)
        return torch.tensor(number, dtype=dtype, device=z.device)
    if temperature.dtype is torch.bool or temperature.is_complex():
        raise TypeError(f"temperature must hold real numbers, got {shown(temperature)}")
    check_dense(temperature, "temperature")
    rows = torch.Size([size for n, size in enumerate(z.shape) if n != dim % z.ndim])
    if not broadcasts_to(temperature.shape, rows):
        raise ValueError(
            f"temperature must be a number or have the shape {tuple(rows)} of the rows, got "
            f"{tuple(temperature.shape)}; give one number for each row"
        )
    if not temperature.is_meta:
        # In float64, which not every device has: the limits of float32 are 0 and infinity to a
        # temperature in half precision.
        wide = temperature.detach().to("cpu", torch.float64)
        fits = (wide >= least) & (wide <= most)
        if zero:
            fits |= wide == 0
        if not bool(fits.all()):
            bad = wide[~fits]
            text = some_values(bad) if wide.ndim else str(bad.item())
            raise _out_of_range(text, bool((bad > 0).all()), dtype, zero)
    divisor = temperature.to(z.device, dtype)
    return divisor.expand(rows).unsqueeze(dim) if divisor.ndim else divisor


def _out_of_range(text: str, positive: bool, dtype: torch.dtype, zero: bool) -> ValueError:
    if positive:
        limits = torch.finfo(dtype)
        return ValueError(
            f"temperature must lie in [{limits.tiny:.4g}, {limits.max:.4g}] to be computed in "
            f"{dtype}, got {text}; convert the logits with z.double(), or take the limit: the "
            "largest logit for T -> 0, the uniform distribution for T -> infinity"
        )
    if zero:
        return ValueError(f"temperature must be >= 0, got {text}; 0 takes the largest logit")
    return ValueError(
        f"temperature must be > 0, got {text}; for T -> 0 take the largest logit: "
        "logits.argmax(-1), or greedy(logits)"
    )


def check_generator(
    generator: Generator, rows: int
) -> torch.Generator | list[torch.Generator] | None:
    """Return one for all rows, or a list of one for each; None if there are no rows."""
    if generator is None or isinstance(generator, torch.Generator):
        return generator
    if not isinstance(generator, Sequence) or not all(
        isinstance(own, torch.Generator) for own in generator
    ):
        raise TypeError(
            "generator must be a torch.Generator, a list with one for each row, or None, got "
            f"{shown(generator)}; torch.Generator().manual_seed(42) makes one of a seed"
        )
    each = list(generator)
    if len(each) != rows:
        raise ValueError(
            f"{len(each)} generators for {rows} rows; give one for all rows, or one for each"
        )
    return each or None


def check_end_token(end_token: int | Sequence[int] | None) -> list[int]:
    """Return the tokens that end a sequence, each once, in their order; none for None."""
    if end_token is None:
        return []
    alone = _plain(end_token)
    if isinstance(alone, str | bytes) or not hasattr(alone, "__iter__"):
        tokens = [end_token]
    elif isinstance(alone, Sequence):
        tokens = list(alone)
    else:
        raise TypeError(
            f"end_token must be an int such as 2 or a list of some, got {shown(end_token)}"
        )
    if not tokens:
        raise ValueError("end_token must name a token, got []; None lets no token end a sequence")
    ends = [check_integer(token, "end_token", 2) for token in tokens]  # type: ignore[arg-type]
    for end in ends:
        if not 0 <= end < 2**63:
            raise ValueError(f"end_token must lie in [0, V), the vocabulary, got {shown(end)}")
    return list(dict.fromkeys(ends))


def check_number(value: float | Tensor, name: str, example: float) -> float:
    """Return a real number as a float: Python's, NumPy's, or a tensor of no dimension."""
    plain = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, Real):
        raise TypeError(f"{name} must be a number such as {example}, got {shown(value)}")
    try:
        return float(plain)
    except OverflowError:  # an int may be larger than any float
        return math.inf if _plain(value) > 0 else -math.inf


def check_integer(value: int | Tensor, name: str, example: int) -> int:
    """Return an integer as an int: Python's, NumPy's, or a tensor of no dimension."""
    plain = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, Integral):
        raise TypeError(f"{name} must be an int such as {example}, got {shown(value)}")
    return int(plain)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) and value.ndim == 0 else value


def check_distribution(p: Tensor, dim: int) -> Tensor:
    """Raise unless every row sums to one; return p in at least float32."""
    check_floating(p, "probabilities")
    check_dim(p, dim, "probabilities")
    half = p.dtype.itemsize < 4
    p32 = at_least_float32(p)
    total = p32.sum(dim)
    wrong = ((total - 1).abs() > (0.05 if half else 1e-3)) | (p32 < 0).any(dim)
    if anywhere(wrong):
        row = p32.movedim(dim, -1)[wrong][0]
        raise ValueError(
            f"probabilities must be >= 0 and sum to 1, got a row {some_values(row)} with sum "
            f"{row.sum().item():.6g}; turn logits into probabilities with softmax(z) first"
        )
    return p32


def check_floating(p: Tensor, name: str) -> None:
    if not isinstance(p, Tensor) or not p.is_floating_point():
        raise TypeError(
            f"{name} must be a tensor of a floating dtype, got {shown(p)}; "
            "torch.tensor(...) or p.float() makes one"
        )
    check_dense(p, name)


def check_dense(x: Tensor, name: str) -> None:
    if x.layout is not torch.strided:
        raise TypeError(
            f"{name} must be a dense tensor, got layout {x.layout}; {name}.to_dense() makes one"
        )


def check_dim(p: Tensor, dim: int, name: str) -> None:
    if isinstance(dim, bool) or not isinstance(dim, int):
        raise TypeError(f"dim must be an int such as -1, got {shown(dim)}")
    if not -p.ndim <= dim < p.ndim:
        raise ValueError(
            f"dim {dim} does not exist in {name} of shape {tuple(p.shape)}; "
            "the last dimension is -1, a scalar has none"
        )


def check_labels(rows: Tensor, labels: Tensor) -> None:
    """Raise unless labels are one class for each row of an (N, K) tensor."""
    if not isinstance(labels, Tensor) or labels.dtype is not torch.int64:
        raise TypeError(
            f"labels must be a tensor of dtype torch.int64, got {shown(labels)}; "
            "one class index for each row, labels.long()"
        )
    check_dense(labels, "labels")
    if rows.ndim != 2 or labels.shape != rows.shape[:1] or len(labels) == 0:
        raise ValueError(
            "needed are N >= 1 rows of K classes and N labels, got shapes "
            f"{tuple(rows.shape)} and {tuple(labels.shape)}; flatten the batch dimensions"
        )
    wrong = labels[(labels < 0) | (labels >= rows.shape[1])]
    if len(wrong):
        raise ValueError(
            f"labels must lie in [0, {rows.shape[1] - 1}], got {some_values(wrong)}; "
            "classes count from 0"
        )


def at_least_float32(z: Tensor) -> Tensor:
    return z.float() if z.dtype.itemsize < 4 else z


def promoted(p: Tensor, q: Tensor) -> torch.dtype:
    """Return the dtype for what is made of both; PyTorch has none for eight bits and others."""
    if p.dtype is q.dtype:
        return p.dtype
    eight = [at_least_float32(x) if x.dtype.itemsize < 2 else x for x in (p, q)]
    return torch.promote_types(*(x.dtype for x in eight))


def broadcasts_to(shape: torch.Size, target: torch.Size) -> bool:
    try:
        return bool(torch.broadcast_shapes(shape, target) == target)
    except RuntimeError:
        return False


def some_values(z: Tensor, most: int = 6) -> str:
    """Write the first values of a tensor, so that a message stays short."""
    if z.is_meta:
        return "[no values on the meta device]"
    dense = z.to_dense() if z.layout is not torch.strided else z
    if dense.ndim == 0:
        return str(dense.item())
    values = ", ".join(str(v) for v in dense.flatten()[:most].tolist())
    return f"[{values}{', ...' if z.numel() > most else ''}]"


class _Shown(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write an integer of more than 4,300 digits.
        digits = int(x.bit_length() / math.log2(10))
        sign = "a negative" if x < 0 else "an"
        return (
            f"{sign} int of some {digits} digits" if digits > 4000 else super().repr_int(x, level)
        )

    def repr1(self, x: Any, level: int) -> str:
        if not isinstance(x, Tensor):
            return super().repr1(x, level)
        values = some_values(x)
        plain = x.dtype in (torch.float32, torch.int64, torch.bool)
        return f"tensor({values}{'' if plain else f', dtype={x.dtype}'})"


_SHOWN = _Shown()
_SHOWN.maxother = 80
_SHOWN.maxstring = 80


def shown(value: Any) -> str:
    """Write what a caller has passed, in one line of at most some 100 characters.

    ``repr`` of a list of 200,000 numbers has a million.
    """
    text = " ".join(_SHOWN.repr(value).split())
    return text if len(text) <= 120 else f"{text[:80]} ... {text[-30:]}"

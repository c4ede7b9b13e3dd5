"""Turn records into lines of JSON, and back. Reading a line checks the types of its fields."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, get_args, get_origin, get_type_hints

from scaling.records.errors import RecordError
from scaling.records.schema import SCHEMA, End, Epoch, Header, StepTimes

__all__ = ["from_line", "from_values", "to_line"]

_IN_WORDS: dict[Any, str] = {int: "a whole number", float: "a number", str: "a text", Sequence: "a list"}
_KINDS: dict[str, type] = {"header": Header, "epoch": Epoch, "end": End}


def to_line(record: Header | Epoch | End) -> str:
    """Return a record as a line of JSON, without a newline.

    Numbers that are not finite become null, because JSON cannot express them.
    """
    kind = next(name for name, cls in _KINDS.items() if isinstance(record, cls))
    fields = {f.name: _plain(getattr(record, f.name)) for f in dataclasses.fields(record)}
    return json.dumps({"record": kind, "schema": SCHEMA, **fields}, allow_nan=False)


def from_line(line: str) -> Header | Epoch | End:
    """Return the record of a line. Unknown fields are ignored, so that files of newer versions can be read.

    Raises:
        RecordError: the line is not JSON, its kind or schema is unknown, or a field is missing or has a wrong value.
    """
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not a JSON object: {error}") from error
    if not isinstance(values, dict) or values.get("record") not in tuple(_KINDS):
        raise RecordError(f"{line[:80]!r} is not a record; expected an object with 'record' one of {', '.join(_KINDS)}")
    if values.get("schema") != SCHEMA:
        raise RecordError(
            f"the schema is {values.get('schema')!r}; expected {SCHEMA}. Read the file with the version that wrote it"
        )
    record: Header | Epoch | End = from_values(_KINDS[values["record"]], values)
    return record


@functools.cache
def _fields(cls: Any) -> tuple[Sequence[str], Sequence[tuple[str, Any]]]:
    """Return the names of the fields of a record class that have no default, and the types of all its fields."""
    needed = [f.name for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING]
    return tuple(needed), tuple(get_type_hints(cls).items())


def from_values(cls: type, values: Mapping[str, Any]) -> Any:
    """Return an instance of the data class `cls` with the values of a JSON object. Unknown values are ignored.

    Raises:
        RecordError: a value is missing, or has another type than its field.
    """
    needed, kinds = _fields(cls)
    if missing := [name for name in needed if name not in values]:
        raise RecordError(f"{cls.__name__} record lacks {', '.join(missing)}")
    # Most values have the right type already. A call for each value would double the time to read a long record.
    return cls(
        **{
            name: value if type(value := values[name]) is kind and kind is not int else _typed(name, kind, value)
            for name, kind in kinds
            if name in values
        }
    )


def _typed(name: str, kind: Any, value: Any) -> Any:
    """Convert a JSON value to the type of the field `name`. A null becomes NaN in a field of numbers.

    Raises:
        RecordError: the value has another type.
    """
    origin = get_origin(kind) or kind
    if origin is float and (value is None or type(value) is float):
        return math.nan if value is None else value
    # An integer of more than 64 bits cannot be a count, and it would overflow in a table.
    if origin in (int, float) and type(value) is int and abs(value) < 2**63:
        return origin(value)
    if origin is str and isinstance(value, str):
        return value
    if kind is StepTimes and isinstance(value, dict):
        return from_values(StepTimes, value)
    if origin is Mapping and isinstance(value, dict):
        inner = get_args(kind)[1]
        return {k: _typed(f"{name}.{k}", float, v) for k, v in value.items()} if inner is float else value
    if origin is Sequence and isinstance(value, list):
        return tuple(_typed(f"{name}[{i}]", get_args(kind)[0], v) for i, v in enumerate(value))
    shown = "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else repr(value)[:80]
    raise RecordError(f"{name} is {shown}; expected {_IN_WORDS.get(origin, 'an object')}")


def _plain(value: Any) -> Any:
    """Convert a value to a type that `json` can write. Settings and losses may hold NumPy numbers and paths."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Real) and not isinstance(value, bool):
        if isinstance(value, Integral):
            return int(value)
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value

"""All architectures by name. A new network needs one module and one line here."""

from __future__ import annotations

from collections.abc import Mapping

from gan.errors import InputError
from gan.models.architecture import Architecture
from gan.models.conv2d import CONV2D
from gan.models.conv3d import CONV3D

__all__ = ["ARCHITECTURES", "DEFAULT", "architecture"]

DEFAULT = CONV3D
ARCHITECTURES: Mapping[str, Architecture] = {each.name: each for each in (CONV3D, CONV2D)}


def architecture(name: str) -> Architecture:
    """Return the architecture with this name.

    Raises:
        InputError: there is no such architecture.
    """
    if name not in ARCHITECTURES:
        raise InputError(f"--model is {name!r}; expected one of {', '.join(ARCHITECTURES)}: change --model")
    return ARCHITECTURES[name]

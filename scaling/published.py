"""Points of other people's scaling studies, with their sources: read from `published.toml`.

What was not published is computed from what was: efficiency from seconds, against the source's own baseline.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

__all__ = ["Published", "PublishedPoint", "read_published"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedPoint:
    """One size of a published study."""

    workers: int
    efficiency: float
    """Against the study's own baseline."""
    seconds: float | None = None
    """Per epoch."""
    nodes: int | None = None
    relation: str = ""
    """Such as `more than`, where the source does not give the figure exactly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """A published study."""

    name: str
    source: str
    unit: str
    """What workers are: workers or GPUs."""
    baseline: int
    points: Sequence[PublishedPoint]

    def relation(self, point: PublishedPoint) -> str:
        """How a point is to be read: `more than 94.0% against 4 workers`."""
        return f"{point.relation} {point.efficiency:.1%} against {self.baseline} {self.unit}".strip()


def read_published() -> list[Published]:
    """The studies that ship with this package."""
    text = resources.files("scaling").joinpath("published.toml").read_text(encoding="utf-8")
    found = []
    for curve in tomllib.loads(text)["curve"]:
        seconds = {point["workers"]: point.get("seconds") for point in curve["points"]}
        base = curve["baseline"]
        points = [
            PublishedPoint(
                **{
                    "efficiency": seconds[base] * base / (point["seconds"] * point["workers"])
                    if "seconds" in point
                    else None,
                    **point,
                }
            )
            for point in curve["points"]
        ]
        found.append(Published(**{**curve, "points": tuple(points)}))
    return found

"""Results of published scaling studies, with their sources, from `published.toml`.

An efficiency that a source does not give is computed from its seconds per epoch, relative to its own baseline.
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
    """Parallel efficiency as a fraction, relative to the baseline of the same study."""
    seconds: float | None = None
    """Seconds per epoch."""
    nodes: int | None = None
    relation: str = ""
    """Words in front of the efficiency, such as `more than`, if the source does not give an exact number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """A published study."""

    name: str
    source: str
    unit: str
    """Unit of the sizes in this study: `workers` or `GPUs`."""
    baseline: int
    """Number of workers that the efficiency refers to."""
    points: Sequence[PublishedPoint]

    def relation(self, point: PublishedPoint) -> str:
        """Return the efficiency of a point in words: `more than 94.0% relative to 4 workers`."""
        return f"{point.relation} {point.efficiency:.1%} relative to {self.baseline} {self.unit}".strip()


def read_published() -> list[Published]:
    """Return the studies in `published.toml`."""
    text = resources.files("scaling").joinpath("published.toml").read_text(encoding="utf-8")
    studies = []
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
        studies.append(Published(**{**curve, "points": tuple(points)}))
    return studies

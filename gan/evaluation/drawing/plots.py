"""The plots of a comparison: which curves and maps they show. Drawing is in `static` and `interactive`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gan.evaluation.comparing import Comparison
from gan.evaluation.drawing.describe import Curve, Curves, Floats, Map, Maps, Plot
from gan.evaluation.samples import Sample
from gan.physics.metrics.authors import FRACTION_EDGES
from gan.physics.metrics.resolution import fitted_resolution, resolution
from gan.physics.observables import SCALARS, SPECTRUM_EDGES

__all__ = ["plots"]

DISPLAY_ENERGIES = (50.0, 150.0, 300.0, 450.0)
"""GeV. Event displays show the events nearest to these energies."""
_PROFILES = (
    ("z", "depth", "layer"),
    ("x", "x", "cell along x"),
    ("y", "y", "cell along y"),
    ("radial", "radius", "distance from the axis, cells"),
)
_HISTOGRAMS = {
    "hits": ("Hits", "cells above the threshold"),
    "mean_x": ("First moment along x", "cells"),
    "mean_y": ("First moment along y", "cells"),
    "mean_z": ("First moment in depth", "layers"),
    "variance_x": ("Second moment along x", "cells squared"),
    "variance_y": ("Second moment along y", "cells squared"),
    "variance_z": ("Second moment in depth", "layers squared"),
    "radius": ("Mean radius", "cells"),
    "start": ("Shower start: depth of 10% of the energy", "layers"),
    "maximum": ("Shower maximum", "layer"),
    "containment": ("Containment: depth of 90% of the energy", "layers"),
}
"""Title and unit of the observables that are drawn as histograms."""


def plots(comparison: Comparison) -> list[Plot]:
    """Return all plots, in the order of the page."""
    samples = [comparison.reference, *comparison.samples]
    return [
        _sampling_fraction(samples),
        _resolution(samples),
        *(plot for name, title, label in _PROFILES for plot in _profiles(samples, name, title, label)),
        *(_histogram(samples, name) for name in _HISTOGRAMS),
        _spectrum(samples),
        _correlations(samples),
        *_displays(comparison.reference, comparison.samples),
        *_roc(comparison),
    ]


def _sampling_fraction(samples: Sequence[Sample]) -> Curves:
    edges = FRACTION_EDGES[::4]
    curves, means = [], []
    for style, sample in enumerate(samples):
        seen = sample.observables
        counts, _ = np.histogram(seen.energies, edges)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.histogram(seen.energies, edges, weights=seen.sampling_fraction)[0] / counts
            square = np.histogram(seen.energies, edges, weights=seen.sampling_fraction**2)[0] / counts
            error = np.sqrt(np.maximum(square - mean**2, 0) / counts)
        means.append(mean)
        shift = (edges[1] - edges[0]) * 0.08 * (style - (len(samples) - 1) / 2)
        centres = (edges[1:] + edges[:-1]) / 2 + shift
        curves.append(Curve(label=sample.name, x=centres, y=mean, error=error, style=style, form="points"))
    return Curves(
        name="sampling-fraction",
        title="Sampling fraction",
        x_label="primary energy, GeV",
        y_label="visible over primary energy",
        curves=curves,
        ratios=_ratios(curves, means),
        caption="Means in bins of 20 GeV with their standard errors.",
    )


def _ratios(curves: Sequence[Curve], values: Sequence[Floats]) -> list[Curve]:
    """Return the ratios of all samples to the first, which is the reference."""
    ratios = []
    for curve, value in list(zip(curves, values, strict=True))[1:]:
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.where(values[0] > 0, value / values[0], np.nan)
        ratios.append(Curve(label=curve.label, x=curve.x, y=ratio, style=curve.style, form=curve.form))
    return ratios


def _resolution(samples: Sequence[Sample]) -> Curves:
    curves = []
    for style, sample in enumerate(samples):
        points = resolution(sample.observables)
        a, b = fitted_resolution(points)
        label = f"{sample.name}: {a:.3f} / sqrt(E) + {b:.4f}" if np.isfinite(a) else sample.name
        curves.append(
            Curve(label=label, x=points.energies, y=points.widths, error=points.errors, style=style, form="points")
        )
        if np.isfinite(a):
            x = np.linspace(points.energies.min(), points.energies.max(), 200)
            curves.append(Curve(label="fit", x=x, y=a / np.sqrt(x) + b, style=style))
    return Curves(
        name="resolution",
        title="Energy resolution",
        x_label="primary energy, GeV",
        y_label="sigma / E of the visible energy",
        curves=curves,
    )


def _profiles(samples: Sequence[Sample], name: str, title: str, label: str) -> list[Curves]:
    curves = []
    for style, sample in enumerate(samples):
        mean = getattr(sample.observables, name).mean(axis=0)
        edges = np.arange(len(mean) + 1, dtype=np.float64) - 0.5
        curves.append(Curve(label=sample.name, x=edges, y=mean, style=style, form="steps"))
    ratios = _ratios(curves, [curve.y for curve in curves])
    return [
        Curves(
            name=f"profile-{name}{suffix}",
            title=f"Profile along the {title}" if name in ("z", "radial") else f"Profile along {title}",
            x_label=label,
            y_label="mean energy, GeV",
            curves=curves,
            ratios=ratios,
            y_log=bool(suffix),
        )
        for suffix in ("", "-log")
    ]


def _histogram(samples: Sequence[Sample], name: str) -> Curves:
    title, unit = _HISTOGRAMS[name]
    column = SCALARS.index(name)
    values = [sample.observables.scalars()[:, column] for sample in samples]
    low, high = np.quantile(values[0], (0.001, 0.999))
    margin = 0.25 * (high - low) or 1.0
    if name == "maximum":
        edges = np.arange(samples[0].observables.z.shape[1] + 1, dtype=np.float64) - 0.5
    else:
        edges = np.linspace(low - margin, high + margin, 61)
    curves = [
        Curve(label=sample.name, x=edges, y=np.histogram(each, edges)[0] / len(each), style=style, form="steps")
        for style, (sample, each) in enumerate(zip(samples, values, strict=True))
    ]
    return Curves(
        name=name.replace("_", "-"), title=title, x_label=unit, y_label="fraction of events per bin", curves=curves
    )


def _spectrum(samples: Sequence[Sample]) -> Curves:
    curves = [
        Curve(label=sample.name, x=SPECTRUM_EDGES, y=sample.spectrum, style=style, form="steps")
        for style, sample in enumerate(samples)
    ]
    return Curves(
        name="cell-energies",
        title="Cell energies",
        x_label="cell energy, GeV",
        y_label="cells per event and bin",
        curves=curves,
        ratios=_ratios(curves, [curve.y for curve in curves]),
        x_log=True,
        y_log=True,
    )


def _correlations(samples: Sequence[Sample]) -> Maps:
    names = ("energy", *(name.replace("_", " ") for name in SCALARS))
    maps = []
    for sample in samples:
        columns = np.column_stack([sample.observables.energies, sample.observables.scalars()])
        with np.errstate(invalid="ignore", divide="ignore"):
            matrix = np.nan_to_num(np.corrcoef(columns, rowvar=False))
        maps.append(Map(title=sample.name, values=matrix, names=names))
    rows = [maps[start : start + 2] for start in range(0, len(maps), 2)]
    return Maps(
        name="correlations",
        title="Correlations",
        maps=rows,
        low=-1.0,
        high=1.0,
        unit="correlation",
        caption="Pearson correlations over all events. 0 for an observable that is constant.",
    )


def _displays(reference: Sample, samples: Sequence[Sample]) -> list[Maps]:
    """Return two displays: projections on three planes, and slices at the layer of the maximum."""
    projections, slices = [], []
    for energy in DISPLAY_ENERGIES:
        for sample in (reference, *samples):
            of_kept = sample.observables.energies[sample.kept]
            number = int(np.argmin(np.abs(of_kept - energy)))
            cells, at = sample.cells[number], of_kept[number]
            title = f"{sample.name}, {at:.4g} GeV"
            projections.append(
                [
                    Map(title=title, values=cells.sum(axis=1), x_label="layer", y_label="x"),
                    Map(title=title, values=cells.sum(axis=0), x_label="layer", y_label="y"),
                    Map(title=title, values=cells.sum(axis=2).T, x_label="x", y_label="y"),
                ]
            )
            peak = int(np.argmax(cells.sum(axis=(0, 1))))
            layers = [min(max(0, peak + step), cells.shape[2] - 1) for step in (-4, 0, 6)]
            slices.append(
                [
                    Map(title=f"{title}, layer {layer}", values=cells[:, :, layer].T, x_label="x", y_label="y")
                    for layer in layers
                ]
            )
    caption = "The events nearest to 50, 150, 300 and 450 GeV. Cells without energy are white."
    return [
        Maps(
            name="projections", title="Event displays: sums over one axis", maps=projections, low=1e-4, high=1.0,
            unit="GeV", log=True, caption=caption,
        ),
        Maps(
            name="slices", title="Event displays: three layers around the shower maximum", maps=slices, low=1e-5,
            high=0.3, unit="GeV", log=True, caption=caption,
        ),
    ]  # fmt: skip


def _roc(comparison: Comparison) -> list[Curves]:
    diagonal = Curve(label="cannot tell", x=np.array([0.0, 1.0]), y=np.array([0.0, 1.0]), form="dashes")
    titles = {"features": "ROC of the classifier on features", "cells": "ROC of the classifier on cells"}
    result = []
    for of, title in titles.items():
        curves = [
            Curve(
                label=f"{sample.name}: AUC {judgement.auc:.3f}", x=judgement.false_positives,
                y=judgement.true_positives, style=style,
            )
            for style, sample in enumerate((comparison.reference, *comparison.samples))
            if (judgement := comparison.judgements.get(sample.name, {}).get(of)) is not None
        ]  # fmt: skip
        if curves:
            result.append(
                Curves(
                    name=f"roc-{of}", title=title, x_label="generated showers taken for real",
                    y_label="real showers taken for real", curves=[*curves, diagonal],
                    caption="The reference's own curve is that between its two halves.",
                )
            )  # fmt: skip
    return result

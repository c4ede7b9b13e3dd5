"""Recipes: complete sets of training settings by name. Users can change each value with an option."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["CONV2D_DEFAULT", "CONV3D_DEFAULT", "REHM2021", "STAMPEDE2", "Recipe"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How to train an architecture."""

    title: str
    """Description in one line, with the source of the values."""
    values: Mapping[str, Any]
    """Values of fields of `gan.settings.TrainingSettings`. Missing fields keep their defaults there."""


STAMPEDE2 = Recipe(
    title="the 256-node runs on Stampede2 (Carminati et al. 2019)",
    values={
        "filters": "16",
        "epochs": 25,
        "warmup_epochs": 5,
        "batch_size": 8,
        "optimizer": "rmsprop",
        "beta1": 0.9,
        "learning_rate": 0.001,
        "discriminator_rate": 1.0,
        "lr_scaling": "linear",
        "lr_schedule": "constant",
        "fakes": "inference",
        "generator_dropout": True,
        "generator_steps": 2,
        "loss_weights": "8,0.2,0.1",
        "real_label": 1.0,
        "label_flip": 0.05,
        "input_noise": 0.0,
        "latent": "product",
        "cell_scale": "gev",
        "cell_power": 1.0,
        "faint_cells": 0.0,
        "last_activation": "relu",
        "energy_bound": 0.0,
        "shape_weight": 0.0,
        "opening_epochs": 0,
        "average": 0.0,
    },
)
REHM2021 = Recipe(
    title="the Conv2D network of Rehm et al. 2021, with the values of the authors' public script",
    values={
        **STAMPEDE2.values,
        "filters": "original",
        "epochs": 30,
        # The script lowers the rate from the 81st file on, at 20 files an epoch: after 4 epochs, by exp(-0.012 x 20).
        "warmup_epochs": 4,
        "lr_schedule": "exponential",
        "lr_decay": 0.787,
        "batch_size": 128,
        "optimizer": "adam",
        "learning_rate": 0.0005,
        "discriminator_rate": 0.2,
        "generator_steps": 1,
        "loss_weights": "6,0.2,0.1",
        "real_label": 0.9,
        "label_flip": 0.0,
        "last_activation": "leaky-start",
        "opening_epochs": 2,
    },
)
_LEARNING: dict[str, Any] = {
    **STAMPEDE2.values,
    "optimizer": "adam",
    "beta1": 0.5,
    "learning_rate": 0.001,
    "lr_scaling": "sqrt",
    "lr_schedule": "cosine",
    "fakes": "training",
    "generator_dropout": False,
    "input_noise": 0.5,
    "latent": "sphere",
    "cell_scale": "rms",
    "cell_power": 0.5,
    "faint_cells": 5e-5,
    "last_activation": "leaky-gradient",
    "energy_bound": 0.2,
    "shape_weight": 100.0,
    "average": 0.99,
}
CONV3D_DEFAULT = Recipe(
    title="fewest events and hours to good showers", values={**_LEARNING, "discriminator_rate": 0.05}
)
CONV2D_DEFAULT = Recipe(
    title=CONV3D_DEFAULT.title, values={**_LEARNING, "filters": "original", "discriminator_rate": 0.2}
)

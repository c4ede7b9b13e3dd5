"""The example of a network in the documentation is an architecture that trains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gan.models.architecture import Architecture
from gan.models.registry import ARCHITECTURES
from gan.ops.draws import position
from gan.parallel import Alone
from gan.settings import TrainingSettings
from gan.simulation.gflash import simulate
from gan.training.networks import Networks
from gan.training.step import LOSSES, TrainingStep
from tests.docs.documents import Block, blocks


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_example_network_trains(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    namespace: dict[str, Any] = {}
    exec(compile(block.text, str(block), "exec"), namespace)
    (network,) = (value for value in namespace.values() if isinstance(value, Architecture))
    assert block.name == f"gan/models/{network.name}.py"
    assert network.name not in ARCHITECTURES, "the example is in the project: show another one"
    monkeypatch.setitem(ARCHITECTURES, network.name, network)
    settings = TrainingSettings.of(model=network.name, batch_size=2)
    networks = Networks(settings, Alone())
    before = [variable.numpy() for variable in networks.generator_variables]
    energies = np.array([50, 200], dtype=np.float32)
    cells = simulate(energies, seed=1)
    result = TrainingStep(networks, settings, Alone())(cells, energies, position(0, 0), settings.learning_rate)
    assert result.losses.shape == (len(LOSSES), len(network.loss_parts))
    assert np.isfinite(result.losses).all()
    after = [variable.numpy() for variable in networks.generator_variables]
    assert any((old != new).any() for old, new in zip(before, after, strict=True))

"""Measure the shortest possible time of a training step of the published networks: convolutions and matrix products.

Every pass of every layer (forward, gradient of the weights, gradient of the input) is timed alone, with the shapes, the
number format and the threads of the training. Its time is multiplied by the number of such passes in a step.
Activations, normalization, dropout, padding, losses and optimizers are left out. So this is a lower limit for a step
with the same convolutions; a step that needs fewer operations may be faster.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tensorflow as tf

from gan.models.architecture import FilterSet
from tests.benchmarks.matmul import DTYPES
from tests.benchmarks.timing import Measurement

__all__ = ["Convolution", "Layer", "Passes", "Product", "limit", "step_flops", "step_layers"]

Operation = Callable[..., tf.Tensor]


@dataclass(frozen=True, slots=True)
class Passes:
    """Numbers of passes of a layer in a step: for its result, the gradient of its weights, and of its input."""

    forward: int
    weights: int
    inputs: int

    @property
    def total(self) -> int:
        return self.forward + self.weights + self.inputs


@dataclass(frozen=True, kw_only=True, slots=True)
class Convolution:
    """A 3-D convolution with stride 1 of channels-last cells."""

    name: str
    cells: tuple[int, int, int]
    """Cells of the input along x, y and depth, with their padding if `padding` is VALID."""
    channels: int
    """Channels of the input."""
    kernel: tuple[int, int, int]
    filters: int
    padding: str = "VALID"
    """VALID or SAME, as in TensorFlow."""

    @property
    def output_cells(self) -> tuple[int, ...]:
        if self.padding == "SAME":
            return self.cells
        return tuple(cells - width + 1 for cells, width in zip(self.cells, self.kernel, strict=True))

    @property
    def flops(self) -> int:
        """Floating-point operations of one pass for one event, the same for all three passes.

        Products with the zeros of SAME are included.
        """
        return 2 * math.prod(self.output_cells) * self.filters * math.prod(self.kernel) * self.channels

    def operations(self, batch: int, dtype: tf.DType) -> dict[str, tuple[Operation, list[tf.Tensor]]]:
        """Return the passes, by their names in `Passes`, with their operands."""
        cells = _operand((batch, *self.cells, self.channels), dtype)
        weights = _operand((*self.kernel, self.channels, self.filters), dtype)
        gradient = _operand((batch, *self.output_cells, self.filters), dtype)
        options = {"strides": [1] * 5, "padding": self.padding}
        shapes = [tf.constant(tensor.shape.as_list()) for tensor in (weights, cells)]

        def forward(cells: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
            return tf.raw_ops.Conv3D(input=cells, filter=weights, **options)

        def by_weights(cells: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
            return tf.raw_ops.Conv3DBackpropFilterV2(
                input=cells, filter_sizes=shapes[0], out_backprop=gradient, **options
            )

        def by_inputs(weights: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
            return tf.raw_ops.Conv3DBackpropInputV2(
                input_sizes=shapes[1], filter=weights, out_backprop=gradient, **options
            )

        return {
            "forward": (forward, [cells, weights]),
            "weights": (by_weights, [cells, gradient]),
            "inputs": (by_inputs, [weights, gradient]),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Product:
    """A dense layer."""

    name: str
    inputs: int
    outputs: int
    always_fp32: bool = False
    """Whether the layer computes in FP32 in every precision, as the discriminator's heads do."""

    @property
    def flops(self) -> int:
        """Floating-point operations of one pass for one event."""
        return 2 * self.inputs * self.outputs

    def operations(self, batch: int, dtype: tf.DType) -> dict[str, tuple[Operation, list[tf.Tensor]]]:
        """Return the passes, by their names in `Passes`, with their operands."""
        dtype = tf.float32 if self.always_fp32 else dtype
        values = _operand((batch, self.inputs), dtype)
        weights = _operand((self.inputs, self.outputs), dtype)
        gradient = _operand((batch, self.outputs), dtype)

        def by_weights(values: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
            return tf.matmul(values, gradient, transpose_a=True)

        def by_inputs(gradient: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
            return tf.matmul(gradient, weights, transpose_b=True)

        return {
            "forward": (tf.matmul, [values, weights]),
            "weights": (by_weights, [values, gradient]),
            "inputs": (by_inputs, [gradient, weights]),
        }


Layer = Convolution | Product


def step_layers(filters: FilterSet) -> dict[Layer, Passes]:
    """Return the layers of both networks, with the number of times that a step of 3DGAN computes each.

    The generator makes the fake showers for the discriminator, and is trained twice. The discriminator is trained on a
    real and a fake batch. It also evaluates both batches of the generator's updates and computes the gradients of these
    batches, but not the gradients of its own weights. The step needs no gradients of latent vectors, and no gradients
    of the cells in an update of the discriminator.
    """
    number = filters.generator
    generator: list[Convolution] = [
        Convolution(name="g1", cells=(7, 7, 8), channels=8, kernel=(6, 6, 8), filters=64, padding="SAME"),
        Convolution(name="g2", cells=(18, 18, 16), channels=64, kernel=(6, 5, 8), filters=number),
        Convolution(name="g3", cells=(28, 28, 33), channels=number, kernel=(3, 3, 8), filters=number),
        Convolution(name="g4", cells=(26, 26, 26), channels=number, kernel=(2, 2, 2), filters=1),
    ]
    number = filters.discriminator
    cube = (5, 5, 5)
    judge: list[Layer] = [
        Convolution(name="d2", cells=(29, 29, 29), channels=32, kernel=cube, filters=number),
        Convolution(name="d3", cells=(29, 29, 29), channels=number, kernel=cube, filters=number),
        Convolution(name="d4", cells=(27, 27, 27), channels=number, kernel=cube, filters=number),
        Product(name="generation", inputs=11**3 * number, outputs=1, always_fp32=True),
        Product(name="auxiliary", inputs=11**3 * number, outputs=1, always_fp32=True),
    ]
    first = Convolution(name="d1", cells=(25, 25, 25), channels=1, kernel=cube, filters=32, padding="SAME")
    return {
        Product(name="dense", inputs=200, outputs=3136): Passes(3, 2, 0),
        **{layer: Passes(3, 2, 2) for layer in generator},
        first: Passes(4, 2, 2),
        **{layer: Passes(4, 2, 4) for layer in judge},
    }


def step_flops(filters: FilterSet) -> int:
    """Return the floating-point operations of a step per event of the batch: 19.0e9 with the original filters."""
    return sum(layer.flops * passes.total for layer, passes in step_layers(filters).items())


def limit(filters: FilterSet, batch: int, precision: str, repeats: int = 1) -> Measurement:
    """Return a measurement of the seconds of a step's convolutions and matrix products alone.

    Each pass is timed once, as the mean of `repeats` runs, and multiplied by its number in a step.
    """
    timed: list[tuple[int, Callable[[], float]]] = []
    for layer, passes in step_layers(filters).items():
        for name, (operation, operands) in layer.operations(batch, DTYPES[precision]).items():
            if count := getattr(passes, name):
                timed.append((count, alone(operation, operands, repeats)))
    return lambda: sum(count * measure() for count, measure in timed)


def alone(operation: Operation, operands: Sequence[tf.Tensor], repeats: int) -> Callable[[], float]:
    """Return a function that measures the seconds of one operation.

    The function runs the operation `repeats` times in one call, so that the cost of the call is small.
    """

    @tf.function(autograph=False)
    def run(*operands: tf.Tensor) -> list[tf.Tensor]:
        results: list[tf.Tensor] = []
        for _ in range(repeats):
            # Each operation waits for the one before, and all results are returned. Otherwise TensorFlow would merge
            # them.
            with tf.control_dependencies(results[-1:]):
                results.append(operation(*operands))
        return results

    def measure() -> float:
        began = time.perf_counter()
        run(*operands)
        return (time.perf_counter() - began) / repeats

    return measure


def _operand(shape: Sequence[int], dtype: tf.DType) -> tf.Tensor:
    return tf.cast(tf.random.stateless_normal(shape, (1, len(shape)), stddev=0.1), dtype)

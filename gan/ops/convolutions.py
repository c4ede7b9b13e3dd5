"""Three-dimensional convolutions of few channels, rewritten to suit vector and matrix units.

The networks have 1 to 64 channels, while a vector unit multiplies 8 (AVX2) or 16 (AVX-512) numbers at a time, and a
matrix unit 32 by 16. Three other forms of a convolution use these units better. Each form changes only the order of the
sums:

- Folded: neighbours in depth become channels, for example 8 output channels become 16 with AVX-512. A kernel with 5
  taps in depth then has 6 taps, and one of them is 0. With AVX2, 8 channels already fill a vector.
- Upsampled: the copies of a cell are multiplied once, by the sum of the kernel's taps that meet them. There is one such
  kernel per position among the copies (its phase, as in sub-pixel convolution, Shi et al., CVPR 2016).
- Unfolded: the gradient of a single input channel is the sum of the gradients of its shifted copies.

The gradient of the cells is a convolution of the upstream gradient, without the part that falls into the padding.

Tensors are channels-last, (batch, x, y, depth, channels); kernels are float32 (x, y, depth, in, out). Module
`gan.precision.arithmetic` multiplies the numbers; `make bench` measures the gain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from gan.ops.fusion import fused
from gan.precision.arithmetic import Arithmetic

__all__ = ["Padding", "convolve", "convolve_upsampled", "same"]

Padding = Sequence[tuple[int, int]]
"""Number of zeros before and after, for each of the three axes."""
Gradients = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def same(kernel: Sequence[int]) -> Padding:
    """Return the padding that keeps the shape. If the number of zeros is odd, the extra zero is after the cells."""
    return [((size - 1) // 2, size // 2) for size in kernel]


def convolve(cells: tf.Tensor, kernel: tf.Tensor, padding: Padding, arithmetic: Arithmetic) -> tf.Tensor:
    """Convolve cells with stride 1.

    Args:
        cells: (batch, x, y, depth, in), in the arithmetic's format.
        kernel: float32 (x, y, depth, in, out).
        padding: zeros around the cells, on each side fewer than the kernel has taps.
        arithmetic: how the processor multiplies numbers.

    Returns:
        (batch, x', y', depth', out) in the arithmetic's format; each axis has length + padding - taps + 1 cells.
    """
    # A single channel is not folded, since the unfolded gradient is cheaper.
    single = kernel.shape[3] == 1
    fold = _Fold(tuple(kernel.shape), cells.shape[3] + sum(padding[2]), 1 if single else _factor(kernel, arithmetic))

    @tf.custom_gradient
    def differentiable(cells: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Gradients]:
        padded = fold.padded(cells, padding)

        def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            of_cells = _single_channel_gradient if single else _cells_gradient
            of_kernel = arithmetic.kernel_gradient(padded, fold.kernel_shape, fold.folded(upstream))
            return of_cells(upstream, kernel, padding, arithmetic), fold.kernel_gradient(of_kernel)

        return fold.flat(arithmetic.forward(padded, fold.kernel(kernel))), gradients

    return differentiable(cells, kernel)


def convolve_upsampled(
    cells: tf.Tensor, kernel: tf.Tensor, factors: Sequence[int], padding: Padding, arithmetic: Arithmetic
) -> tf.Tensor:
    """Repeat every cell `factors` times along x, y and depth, pad and convolve.

    The result is equal to `convolve` of the repeated cells, with fewer products. The other arguments are the same as
    for `convolve`.
    """
    axes = [
        _Upsampled(length, taps, factor, *around)
        for length, taps, factor, around in zip(cells.shape[1:4], kernel.shape[:3], factors, padding, strict=True)
    ]
    zeros = [axis.padding for axis in axes]
    inputs, outputs = kernel.shape[3:]
    taps = [tf.constant(axis.taps) for axis in axes]
    summed = tf.einsum("abcio,alr,bms,cnt->lmnirsto", kernel, *taps)
    summed = tf.reshape(summed, [*(axis.size for axis in axes), inputs, math.prod(factors) * outputs])

    @tf.custom_gradient
    def differentiable(cells: tf.Tensor, summed: tf.Tensor) -> tuple[tf.Tensor, Gradients]:
        padded = tf.pad(cells, [(0, 0), *zeros, (0, 0)])

        def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            of_padded = arithmetic.input_gradient(padded.shape, summed, upstream)
            return _cut(of_padded, zeros), arithmetic.kernel_gradient(padded, summed.shape, upstream)

        return arithmetic.forward(padded, summed), gradients

    places = differentiable(cells, summed)
    return _interleaved(places, factors=tuple(factors), lengths=tuple(axis.outputs for axis in axes))


@fused
def _interleaved(places: tf.Tensor, *, factors: tuple[int, ...], lengths: tuple[int, ...]) -> tf.Tensor:
    """Turn phases in channels, (batch, x, y, depth, phases * out), into separate cells, and cut them to `lengths`."""
    outputs = places.shape[4] // math.prod(factors)
    phases = tf.reshape(places, [-1, *places.shape[1:4], *factors, outputs])
    whole = tf.transpose(phases, [0, 1, 4, 2, 5, 3, 6, 7])
    whole = tf.reshape(whole, [-1, *(n * f for n, f in zip(places.shape[1:4], factors, strict=True)), outputs])
    return whole[:, : lengths[0], : lengths[1], : lengths[2]]


def _factor(kernel: tf.Tensor, arithmetic: Arithmetic) -> int:
    """Return the number of neighbours in depth whose channels together fill the multiplier."""
    inputs, outputs = kernel.shape[3:]
    rows, columns = arithmetic.multiplier
    return max(math.ceil(rows / inputs), math.ceil(columns / outputs))


def _cells_gradient(upstream: tf.Tensor, kernel: tf.Tensor, padding: Padding, arithmetic: Arithmetic) -> tf.Tensor:
    """Return the gradient of the cells: the upstream gradient convolved with the mirrored kernel.

    With more output than input channels, as in the generator's first layer, TensorFlow's own form is twice as fast.
    """
    if kernel.shape[4] > kernel.shape[3]:
        return _cut(arithmetic.input_gradient(_input_shape(upstream, kernel), kernel, upstream), padding)
    mirrored = tf.transpose(tf.reverse(kernel, axis=[0, 1, 2]), [0, 1, 2, 4, 3])
    zeros = [
        (size - 1 - before, size - 1 - after) for size, (before, after) in zip(kernel.shape[:3], padding, strict=True)
    ]
    fold = _Fold(tuple(mirrored.shape), upstream.shape[3] + sum(zeros[2]), _factor(mirrored, arithmetic))
    return fold.flat(arithmetic.forward(fold.padded(upstream, zeros), fold.kernel(mirrored)))


def _single_channel_gradient(
    upstream: tf.Tensor, kernel: tf.Tensor, padding: Padding, arithmetic: Arithmetic
) -> tf.Tensor:
    """Return the gradient of cells with one channel.

    The copies of the cells, shifted in y and depth, serve as channels. Their gradients are added at the end.
    """
    x, y, depth, _, outputs = kernel.shape
    across = tf.reshape(kernel, [x, 1, 1, y * depth, outputs])
    copies = arithmetic.input_gradient(_input_shape(upstream, across), across, upstream)
    return _cut(_overlapped(copies, y=y, depth=depth), padding)


@fused
def _overlapped(copies: tf.Tensor, *, y: int, depth: int) -> tf.Tensor:
    """Shift the copies (batch, x, y, depth, shifts) in y and depth, and add them up to one channel."""
    apart = tf.reshape(copies, [*copies.shape[:4], y, depth])
    rows = [tf.pad(apart[:, :, :, :, n], _shift(2, n, y)) for n in range(y)]
    cells = [tf.pad(copy, _shift(3, n, depth)) for n, copy in enumerate(tf.split(tf.add_n(rows), depth, axis=4))]
    return tf.add_n(cells)


def _shift(axis: int, number: int, size: int) -> list[tuple[int, int]]:
    """Return the padding that shifts copy `number` of `size` along an axis."""
    return [(number, size - 1 - number) if n == axis else (0, 0) for n in range(5)]


def _input_shape(upstream: tf.Tensor, kernel: tf.Tensor) -> list[int]:
    """Return the shape of the cells that a convolution without padding turns into the shape of `upstream`."""
    lengths = (n + size - 1 for n, size in zip(upstream.shape[1:4], kernel.shape[:3], strict=True))
    return [upstream.shape[0], *lengths, kernel.shape[3]]


def _cut(padded: tf.Tensor, padding: Padding) -> tf.Tensor:
    """Return padded cells without their padding."""
    lengths = (n - sum(zeros) for n, zeros in zip(padded.shape[1:4], padding, strict=True))
    return tf.slice(padded, [0, *(before for before, _ in padding), 0], [-1, *lengths, -1])


@dataclass(frozen=True, slots=True)
class _Fold:
    """A convolution with groups of `factor` neighbours in depth as channels."""

    shape: tuple[int, ...]
    """Shape of the kernel: x, y, depth, in, out."""
    depth: int
    """Depth of the cells with their padding."""
    factor: int
    """Number of cells per group."""

    @property
    def outputs(self) -> int:
        """Depth of the result."""
        return self.depth - self.shape[2] + 1

    @property
    def output_groups(self) -> int:
        return math.ceil(self.outputs / self.factor)

    @property
    def taps(self) -> int:
        """Number of groups of cells that a group of results depends on."""
        return 1 + math.ceil((self.shape[2] - 1) / self.factor)

    @property
    def kernel_shape(self) -> list[int]:
        x, y, _, inputs, outputs = self.shape
        return [x, y, self.taps, self.factor * inputs, self.factor * outputs]

    def padded(self, cells: tf.Tensor, padding: Padding) -> tf.Tensor:
        """Pad cells and group them. The result has the shape (batch, x, y, groups, factor * in channels)."""
        groups = self.output_groups + self.taps - 1
        before, after = padding[2]
        padded = tf.pad(cells, [(0, 0), *padding[:2], (before, after + groups * self.factor - self.depth), (0, 0)])
        return tf.reshape(padded, [-1, *padded.shape[1:3], groups, self.factor * cells.shape[4]])

    def folded(self, results: tf.Tensor) -> tf.Tensor:
        """Group results: the inverse of `flat`. Missing results in the last group are 0."""
        missing = self.output_groups * self.factor - self.outputs
        whole = tf.pad(results, [(0, 0), (0, 0), (0, 0), (0, missing), (0, 0)]) if missing else results
        return tf.reshape(whole, [-1, *whole.shape[1:3], self.output_groups, self.factor * self.shape[4]])

    def flat(self, results: tf.Tensor) -> tf.Tensor:
        """Return the results of the folded convolution as (batch, x, y, depth, out)."""
        depth = self.output_groups * self.factor
        return tf.reshape(results, [-1, *results.shape[1:3], depth, self.shape[4]])[:, :, :, : self.outputs]

    def kernel(self, kernel: tf.Tensor) -> tf.Tensor:
        """Return the kernel for groups of cells, in the shape `kernel_shape`."""
        if self.factor == 1:
            return kernel
        return tf.reshape(tf.einsum("xydio,dgsr->xygsiro", kernel, tf.constant(self._places())), self.kernel_shape)

    def kernel_gradient(self, gradient: tf.Tensor) -> tf.Tensor:
        """Return the gradient of the kernel from the gradient of the kernel for groups."""
        if self.factor == 1:
            return gradient
        x, y, _, inputs, outputs = self.shape
        apart = tf.reshape(gradient, [x, y, self.taps, self.factor, inputs, self.factor, outputs])
        return tf.einsum("xygsiro,dgsr->xydio", apart, tf.constant(self._places()))

    def _places(self) -> np.ndarray:
        """Return an array (d, g, s, r): 1 if result r of a group meets cell s of group g through tap d, else 0."""
        tap, group, cell, result = np.ogrid[: self.shape[2], : self.taps, : self.factor, : self.factor]
        return (group * self.factor + cell - result == tap).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Upsampled:
    """One axis of a convolution over repeated cells.

    Through tap t, result `factor * q + r` meets the repeated cell `factor * q + r + t - before`. That is a copy of cell
    `q + (r + t - before) // factor`, so all taps with the same quotient meet the same cell.
    """

    cells: int
    """Number of cells along the axis before they are repeated."""
    kernel: int
    """Number of taps of the kernel along the axis, for repeated cells."""
    factor: int
    """Number of copies of each cell."""
    before: int
    """Number of zeros before the repeated cells."""
    after: int
    """Number of zeros after the repeated cells."""

    @property
    def outputs(self) -> int:
        """Number of results."""
        return self.cells * self.factor + self.before + self.after - self.kernel + 1

    @property
    def size(self) -> int:
        """Number of taps of the equivalent kernel for cells that are not repeated."""
        return self._reach(self.factor - 1, self.kernel - 1) - self._reach(0, 0) + 1

    @property
    def taps(self) -> np.ndarray:
        """Array (t, l, r): 1 if tap t of result r meets cell l, else 0."""
        falls = np.zeros((self.kernel, self.size, self.factor), np.float32)
        for tap, result in np.ndindex(self.kernel, self.factor):
            falls[tap, self._reach(result, tap) - self._reach(0, 0), result] = 1.0
        return falls

    @property
    def padding(self) -> tuple[int, int]:
        """Number of zeros before and after the cells. Results may ignore the last cells, which does no harm."""
        before = -self._reach(0, 0)
        needed = math.ceil(self.outputs / self.factor) + self.size - 1
        return before, max(0, needed - before - self.cells)

    def _reach(self, result: int, tap: int) -> int:
        """Return the index of the cell that a result meets through a tap; negative in the padding."""
        return (result + tap - self.before) // self.factor

"""TensorFlow operations of the networks: convolutions, the operations after a convolution, random numbers."""

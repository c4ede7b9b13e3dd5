"""TensorFlow operations of the networks: convolutions, what follows a convolution, random numbers."""

"""TensorFlow operations that the networks are made of: convolutions, what follows them, random numbers."""

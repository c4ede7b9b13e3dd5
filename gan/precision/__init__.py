"""Number formats of a training, and the arithmetic of convolutions in these formats."""

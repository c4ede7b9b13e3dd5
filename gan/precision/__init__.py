"""Number formats of a training, and how convolutions multiply them."""

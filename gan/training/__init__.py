"""A training: the step, the epochs, the validation, and what is recorded of them."""

"""A training: the step, the epochs, the validation and the record of them."""

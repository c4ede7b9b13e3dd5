"""Turns the records of training runs into time per epoch, speed-up and parallel efficiency."""

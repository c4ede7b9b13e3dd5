"""A true node of 2 NUMA domains and 96 CPUs on any machine: checks that need more than this machine has.

`python -m tests.qemu` boots it under QEMU; what is checked inside is in `checks`. Neither belongs to the test suite.
"""

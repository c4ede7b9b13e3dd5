"""Check binding and pinning on a node with 2 NUMA domains and 96 CPUs, emulated by QEMU.

`python -m tests.qemu` boots the node and runs `checks` inside. This is not part of the test suite.
"""

"""Install the faults of the variable FAULTS, see `tests.support.injection`. Python imports this module at its start.

This folder must hold no other module: it is on the path of every Python process of the test.
"""

from __future__ import annotations

import os

if "FAULTS" in os.environ:
    from tests.support.injection import install, parse

    install(parse(os.environ["FAULTS"], os.environ.get("OMPI_COMM_WORLD_RANK", "0")))

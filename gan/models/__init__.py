"""The networks, one file for each architecture. `registry` lists them."""

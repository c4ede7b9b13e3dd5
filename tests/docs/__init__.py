"""Checks of the documentation: commands, TOML blocks, examples, links and names."""

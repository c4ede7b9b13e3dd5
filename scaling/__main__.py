"""Run the command line `python -m scaling`."""

from scaling.cli import main

main(prog_name="python -m scaling")

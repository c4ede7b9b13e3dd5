"""Makes `python -m gan` the command line of `gan.cli`."""

from gan.cli import main

if __name__ == "__main__":
    main(prog_name="python -m gan")

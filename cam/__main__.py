"""Run the command line by ``python -m cam``."""

from cam._cli.commands import main

main(prog_name="python -m cam")

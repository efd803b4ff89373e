"""Run the command line: ``python -m cam``, or ``cam`` where it is installed."""

from cam._cli.commands import main

main(prog_name="python -m cam")

"""``python -m cam``."""

from cam.cli import main

main(prog_name="python -m cam")

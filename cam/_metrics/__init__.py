"""Register the metrics: importing this package imports them all."""

from importlib import import_module
from pkgutil import walk_packages

# Every module below, in the order of their names, which is that of `cam.metrics()`.
for module in walk_packages(__path__, f"{__name__}."):
    import_module(module.name)

"""Explain vision models: many attribution methods in one pass.

The names below are the public interface, with :mod:`cam.targets`, :mod:`cam.compat` and
:mod:`cam.kernels`. Whatever begins with an underscore may change. Each name is imported when it is
first used (the file ``__init__.pyi`` says from where), so ``import cam`` takes no time.
"""

from pathlib import Path

import lazy_loader

# In a checkout that is not installed, kernels/ and pages/ lie beside this package and not in it.
if not (Path(__file__).parent / "kernels").is_dir():
    __path__.append(str(Path(__file__).parents[1]))

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

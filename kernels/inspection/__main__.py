"""Print the compile report: ``python -m cam.kernels.inspection``."""

import sys

from .report import main

sys.exit(main())

"""Name the files of the checkout that tests read or run."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "dashboard.py"

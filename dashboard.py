"""The dashboard: ``streamlit run dashboard.py``, or ``make dashboard``."""

from cam.pages.ui.server import router

router.run()

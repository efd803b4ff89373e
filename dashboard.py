"""The dashboard: ``streamlit run dashboard.py``, or ``make dashboard``."""

from pages.ui import router

router.run()

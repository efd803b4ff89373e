"""Start the installed dashboard.

Streamlit reads its settings from the folder ``.streamlit`` beside this file.
"""

from cam.pages.ui.server import router

router.run()

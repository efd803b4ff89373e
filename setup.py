"""Find the packages; everything else stands in pyproject.toml.

``kernels/`` and ``pages/``, which lie beside ``cam/`` in the checkout, become ``cam.kernels`` and
``cam.pages``: a package of the registry is called ``kernels`` too, and both may be installed.
"""

from setuptools import find_packages, setup

BESIDE = ("kernels", "pages")

setup(
    packages=[
        *find_packages(include=["cam", "cam.*"]),
        *(
            f"cam.{package}"
            for name in BESIDE
            for package in find_packages(include=[name, f"{name}.*"])
        ),
    ],
    package_dir={f"cam.{name}": name for name in BESIDE},
)

"""Write kernels/colormaps.txt from matplotlib: `python -m tests.support.make_colormaps`."""

import matplotlib

from cam.kernels.blending.colormaps import FILE

NAMES = (
    *("viridis", "magma", "inferno", "plasma", "cividis", "turbo", "jet", "gray"),
    *("coolwarm", "RdBu_r", "seismic"),
)

if __name__ == "__main__":
    tables = {name: matplotlib.colormaps[name](range(256), bytes=True)[:, :3] for name in NAMES}
    lines = [f"{name} {table.tobytes().hex()}\n" for name, table in tables.items()]
    FILE.write_text("".join(lines), encoding="ascii")

"""Write kernels/colormaps.txt from matplotlib: `python -m tests.support.make_colormaps`."""

import matplotlib

from cam.kernels.blending.colormaps import COLORMAPS, FILE

if __name__ == "__main__":
    tables = {name: matplotlib.colormaps[name](range(256), bytes=True)[:, :3] for name in COLORMAPS}
    lines = [f"{name} {table.tobytes().hex()}\n" for name, table in tables.items()]
    FILE.write_text("".join(lines), encoding="ascii")

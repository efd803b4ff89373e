// What the visitor selected: pixels of the maps' grid, by box or brush.

export class Region {
  constructor(width, height) {
    Object.assign(this, { width, height });
    this.clear();
  }

  clear() {
    this.mask = new Uint8Array(this.width * this.height);
    this.box = null; // left, top, right, bottom; the last two are not inside
    this.count = 0;
  }

  setBox(from, to) {
    const left = Math.min(from.column, to.column);
    const top = Math.min(from.row, to.row);
    const right = Math.max(from.column, to.column) + 1;
    const bottom = Math.max(from.row, to.row) + 1;
    this.mask.fill(0);
    for (let row = top; row < bottom; row++) {
      this.mask.fill(1, row * this.width + left, row * this.width + right);
    }
    this.box = [left, top, right, bottom];
    this.count = (right - left) * (bottom - top);
  }

  // A round brush drawn from one sample to another.
  paint(from, to, radius, value) {
    if (this.box) this.box = null;
    const length = Math.max(Math.abs(to.column - from.column), Math.abs(to.row - from.row), 1);
    for (let step = 0; step <= length; step++) {
      const column = from.column + ((to.column - from.column) * step) / length;
      const row = from.row + ((to.row - from.row) * step) / length;
      this.dab(column, row, radius, value);
    }
    this.count = this.mask.reduce((sum, inside) => sum + inside, 0);
  }

  dab(column, row, radius, value) {
    const { width, height, mask } = this;
    const top = Math.max(Math.ceil(row - radius), 0);
    const bottom = Math.min(Math.floor(row + radius), height - 1);
    for (let y = top; y <= bottom; y++) {
      const half = Math.sqrt(radius ** 2 - (y - row) ** 2);
      const left = Math.max(Math.ceil(column - half), 0);
      const right = Math.min(Math.floor(column + half), width - 1);
      if (right >= left) mask.fill(value, y * width + left, y * width + right + 1);
    }
  }

  // Shares of a layer's values for, and against, that lie inside; null where there are none.
  measure(layer) {
    const inside = [0, 0];
    const total = [0, 0];
    layer.values.forEach((value, at) => {
      const code = layer.codes[at];
      if (Number.isNaN(value) || code === layer.zero) return;
      const sign = value < 0 ? 1 : 0;
      total[sign] += Math.abs(value);
      if (this.mask[at]) inside[sign] += Math.abs(value);
    });
    const share = (sign) => (total[sign] ? inside[sign] / total[sign] : null);
    return { supporting: share(0), opposing: share(1) };
  }

  // As numpy.packbits packs it.
  pack() {
    const bytes = new Uint8Array(Math.ceil(this.mask.length / 8));
    this.mask.forEach((inside, at) => {
      if (inside) bytes[at >> 3] |= 128 >> (at & 7);
    });
    let text = "";
    for (const byte of bytes) text += String.fromCharCode(byte);
    return btoa(text);
  }

  // Draw it: tinted inside, with an edge that is read on any ground.
  draw(canvas) {
    const { width, height, mask } = this;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const image = new ImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && mask[y * width + x];
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        if (!mask[y * width + x]) continue;
        const edge =
          !inside(x - 1, y) || !inside(x + 1, y) || !inside(x, y - 1) || !inside(x, y + 1);
        // ABGR; edges alternate between white and black.
        pixels[y * width + x] = edge ? ((x + y) & 4 ? 0xffffffff : 0xff101010) : 0x40ffe05a;
      }
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  }
}

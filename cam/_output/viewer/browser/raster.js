// Decode maps, and blend them over an image exactly as the library's cam.overlay does.

const NAN_CODE = 65535;
const ONE = 65536;
const HALF = 32768;
const { fround } = Math;

function bytesOf(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

export async function decodeImage(uri) {
  const blob = await (async () => {
    const bytes = bytesOf(uri.slice(uri.indexOf(",") + 1));
    return new Blob([bytes], { type: uri.slice(5, uri.indexOf(";")) });
  })();
  const bitmap = await createImageBitmap(blob, {
    colorSpaceConversion: "none",
    premultiplyAlpha: "none",
  });
  return readPixels(bitmap, bitmap.width, bitmap.height);
}

export function readPixels(source, width, height) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

// From 16-bit codes to values, in which 1 is where the colours end.
export async function decodeLayer(layer, width, height) {
  const stream = new Blob([bytesOf(layer.codes)])
    .stream()
    .pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const count = width * height;
  const values = new Float32Array(count);
  const codes = new Uint16Array(count);
  for (let row = 0; row < height; row++) {
    let code = 0;
    for (let at = row * width; at < (row + 1) * width; at++) {
      code = (code + ((planes[at] << 8) | planes[count + at])) & 0xffff;
      codes[at] = code;
      values[at] = code === NAN_CODE ? NaN : (code - layer.zero + 0.5) / layer.steps;
    }
  }
  return { ...layer, codes, values, width, height, signed: layer.zero > 0 };
}

// The value of one sample, in the units of the map.
export function readValue(layer, column, row) {
  const code = layer.codes[row * layer.width + column];
  if (code === NAN_CODE) return { value: NaN, beyond: false };
  const middle = code === layer.zero ? 0 : (code - layer.zero + 0.5) / layer.steps;
  return { value: middle * layer.end * layer.unit, scaled: middle, beyond: code >= layer.most };
}

function neighbours(size, target) {
  const scale = fround(size / target);
  const low = new Int32Array(target);
  const high = new Int32Array(target);
  const share = new Float32Array(target);
  for (let at = 0; at < target; at++) {
    const position = Math.max(fround(fround(at + 0.5) * scale) - 0.5, 0);
    low[at] = Math.min(Math.floor(fround(position)), size - 1);
    high[at] = Math.min(low[at] + 1, size - 1);
    share[at] = fround(fround(position) - low[at]);
  }
  return { low, high, share };
}

// Bilinear between the centres of samples; rounds where the library's reference does.
export function upsample(values, width, height, newWidth, newHeight) {
  if (width === newWidth && height === newHeight) return values;
  const columns = neighbours(width, newWidth);
  const rows = neighbours(height, newHeight);
  const wide = new Float32Array(height * newWidth);
  for (let row = 0; row < height; row++) {
    for (let at = 0; at < newWidth; at++) {
      const share = columns.share[at];
      const left = fround(fround(1 - share) * values[row * width + columns.low[at]]);
      wide[row * newWidth + at] =
        left + fround(share * values[row * width + columns.high[at]]);
    }
  }
  const result = new Float32Array(newHeight * newWidth);
  for (let row = 0; row < newHeight; row++) {
    const share = rows.share[row];
    const rest = fround(1 - share);
    const top = rows.low[row] * newWidth;
    const bottom = rows.high[row] * newWidth;
    for (let at = 0; at < newWidth; at++) {
      result[row * newWidth + at] = fround(rest * wide[top + at]) + fround(share * wide[bottom + at]);
    }
  }
  return result;
}

// One layer at the size of an image: the colour's index and the size of the value of each pixel.
export class Raster {
  constructor(layer, image) {
    const { width, height } = image;
    this.image = image;
    const values = upsample(layer.values, layer.width, layer.height, width, height);
    const count = width * height;
    this.index = new Uint8Array(count);
    this.sizes = new Float32Array(count); // -1 where there is no value
    this.signs = new Int8Array(count);
    const zero = 1 / layer.steps;
    for (let at = 0; at < count; at++) {
      const value = values[at];
      if (Number.isNaN(value)) {
        this.sizes[at] = -1;
        continue;
      }
      const held = Math.min(Math.max(value, layer.signed ? -1 : 0), 1);
      const step = layer.signed ? fround(fround(held) + 1) * 128 : held * 256;
      this.index[at] = Math.min(step, 255);
      this.sizes[at] = Math.abs(held);
      this.signs[at] = value < 0 ? -1 : value < zero && layer.signed ? 0 : 1;
    }
    this.bySign = { both: this.sizes };
    this.output = new ImageData(width, height);
    this.old = new Int32Array(image.data.buffer); // red lies in the lowest byte
    this.out = new Int32Array(this.output.data.buffer);
  }

  selectSizes(signs) {
    const wanted = signs === "for" ? 1 : -1;
    this.bySign[signs] ??= this.sizes.map((size, at) => (this.signs[at] === wanted ? size : -1));
    return this.bySign[signs];
  }

  blend(table, { alpha, fade, threshold, signs }) {
    const sizes = this.selectSizes(signs);
    const { index, old, out } = this;
    const opacity = Math.round(alpha * ONE);
    const least = fround(threshold);
    // Whole numbers of 16 bits behind the point, and a pixel in one word: a frame is a drag's.
    for (let at = 0; at < sizes.length; at++) {
      const size = sizes[at];
      const share = size >= least ? (fade ? (opacity * size) | 0 : opacity) : 0;
      const word = old[at];
      if (share === 0) {
        out[at] = word;
        continue;
      }
      const from = index[at] * 3;
      const red = word & 255;
      const green = (word >> 8) & 255;
      const blue = (word >> 16) & 255;
      out[at] =
        (255 << 24) |
        ((blue + ((share * (table[from + 2] - blue) + HALF) >> 16)) << 16) |
        ((green + ((share * (table[from + 1] - green) + HALF) >> 16)) << 8) |
        (red + ((share * (table[from] - red) + HALF) >> 16));
    }
    return this.output;
  }
}

export function decodeTable(text) {
  return bytesOf(text);
}

// Blend a frame and its map in the browser; put before the scripts that use it.

async function decode(text, type) {
  const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type }));
}

// The colours of maps without signs ("plain") and with them ("signed").
function decodeTables(texts) {
  const decoded = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  return { plain: decoded(texts.plain), signed: decoded(texts.signed) };
}

const scratch = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

// As cam.overlay with `fade`: the opacity follows the evidence, so what is cold stays as it is.
function blend(context, image, map, tables, opacity, signed = false) {
  const { width, height } = image;
  const { canvas } = context;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  context.drawImage(image, 0, 0);
  if (!opacity) return;
  Object.assign(scratch.canvas, { width, height });
  scratch.drawImage(map, 0, 0, width, height);
  const values = scratch.getImageData(0, 0, width, height).data;
  const table = signed ? tables.signed : tables.plain;
  const pixels = context.getImageData(0, 0, width, height);
  const { data } = pixels;
  for (let at = 0; at < data.length; at += 4) {
    const value = values[at];
    const share = opacity * (signed ? Math.abs((2 * value) / 255 - 1) : value / 255);
    for (let channel = 0; channel < 3; channel++) {
      const ink = table[3 * value + channel];
      data[at + channel] += share * (ink - data[at + channel]);
    }
  }
  context.putImageData(pixels, 0, 0);
}

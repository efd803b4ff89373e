// One cell of the viewer: the image, or a map over it, with its title and readings.

import { element, makeButton } from "./elements.js";
import { decodeLayer, Raster, readValue } from "./raster.js";
import { change, toStage } from "./shared.js";
import { listenToStage } from "./gestures.js";
import { drawMarks, makeLegend } from "./marks.js";

export class Cell {
  constructor(viewer, map) {
    Object.assign(this, { viewer, map, rasters: new Map() });
    const { data } = viewer;
    const [width, height] = data.size;
    const title = map?.title ?? data.title;
    this.name = map?.name ?? "";
    this.base = element("canvas", { class: "base", "aria-hidden": "true" });
    this.top = element("canvas", {
      class: "top",
      role: "img",
      "aria-label": map?.alt ?? title,
      "aria-description": map?.description,
    });
    this.tint = element("canvas", { class: "tint", "aria-hidden": "true" });
    this.marks = drawMarks(data.marks, Boolean(map));
    this.content = element("div", { class: "content" }, this.base, this.top, this.marks, this.tint);
    this.cross = element("div", { class: "cross", hidden: "" });
    this.handle = element("div", {
      class: "divider",
      role: "slider",
      tabindex: 0,
      "aria-label": `Divider between image and ${title}`,
      "aria-valuemin": 0,
      "aria-valuemax": 100,
      hidden: "",
    });
    this.stage = element(
      "div",
      {
        class: "stage",
        tabindex: 0,
        role: "application",
        "aria-roledescription": "zoomable image",
        "aria-label": `${title}. Arrows move the cursor, ${viewer.picksIn(map) ? "Enter explains what is below it, " : ""}question mark lists the keys.`,
        "aria-description": map?.description,
        style: `aspect-ratio:${width} / ${height}`,
      },
      this.content,
      this.handle,
      this.cross,
    );
    this.save = makeButton("download", `Download ${title} as PNG`, () => this.download());
    const buttons = element(
      "div",
      { class: "corner" },
      this.save,
      makeButton("expand", `Enlarge ${title}`, () => viewer.enlarge(this), { kind: "expand" }),
    );
    this.reading = element("span", { class: "reading" });
    const heading = element("div", { class: "heading" }, element("strong", { text: title }), this.reading);
    this.node = element(
      "figure",
      { class: "cell" },
      element("div", { class: "frame" }, this.stage, buttons),
      heading,
    );
    this.caption = element("figcaption");
    if (map) this.addScale();
    this.share = element("p", { class: "share", hidden: "" });
    this.write(map ? map.captions : [`${width} × ${height} pixels`, ...data.captions]);
    this.node.append(this.caption);
    this.stage.classList.toggle("picks", viewer.picksIn(map));
    if (!map && data.marks) this.node.append(makeLegend(data.marks, this.marks));
    listenToStage(this);
  }

  // The lines under the map; one that still grows cannot be saved as if it were done.
  write(lines) {
    const { map } = this;
    const about = map ? [element("p", { class: "about", text: map.description })] : [];
    this.caption.replaceChildren(this.share, ...lines.map((text) => element("p", { text })), ...about);
    this.save.hidden = Boolean(map?.growing);
    this.node.setAttribute("aria-busy", String(Boolean(map?.growing)));
  }

  // Other values of the same map, decoded before any of them is drawn.
  async renew(map) {
    const changed = map.heatmap.codes !== this.map.heatmap.codes;
    const layers = changed ? await this.decode(map) : { heatmap: this.heatmap, signed: this.signed };
    return () => {
      Object.assign(this, layers, { map });
      if (changed) this.rasters.clear();
      this.write(map.captions);
      for (const node of [this.top, this.stage]) node.setAttribute("aria-description", map.description);
    };
  }

  async decode(map) {
    const [width, height] = this.viewer.data.grid;
    const heatmap = await decodeLayer(map.heatmap, width, height);
    return { heatmap, signed: map.signed && (await decodeLayer(map.signed, width, height)) };
  }

  addScale() {
    this.bar = element("canvas", { width: 256, height: 1, "aria-hidden": "true" });
    this.mark = element("i", { hidden: "" });
    this.veil = element("b");
    this.low = element("span");
    this.high = element("span");
    this.scale = element(
      "div",
      { class: "scale" },
      this.low,
      element("div", { class: "bar" }, this.bar, this.veil, this.mark),
      this.high,
    );
    this.node.append(this.scale);
  }

  async load() {
    if (this.map) Object.assign(this, await this.decode(this.map));
  }

  // Which layer is drawn, and which of its values; as Attribution.picture() does for auto.
  select() {
    const { signs } = this.viewer.settings;
    const { kind, negative } = this.map;
    const both = signs === "auto" ? kind === "contribution" : signs === "both" && negative;
    if (both && this.signed) return { layer: this.signed, signs: "both" };
    if (signs === "against") return { layer: this.signed ?? this.heatmap, signs: "against" };
    return { layer: this.heatmap, signs: "both" };
  }

  rasterKey(image, layer = this.select().layer) {
    return `${layer.signed} ${image.width}`;
  }

  rasterOf(layer, image) {
    const key = this.rasterKey(image, layer);
    if (!this.rasters.has(key)) this.rasters.set(key, new Raster(layer, image));
    return this.rasters.get(key);
  }

  blend(image) {
    const { layer, signs } = this.select();
    const { colormap, alpha, fade, threshold } = this.viewer.settings;
    const table = this.viewer.table(layer.signed ? this.viewer.data.diverging : colormap);
    return this.rasterOf(layer, image).blend(table, { alpha, fade, threshold, signs });
  }

  drawBase(image) {
    for (const canvas of this.map ? [this.base, this.top] : [this.top]) {
      Object.assign(canvas, { width: image.width, height: image.height });
    }
    (this.map ? this.base : this.top).getContext("2d").putImageData(image, 0, 0);
  }

  draw(image) {
    if (!this.map) return;
    const { width, height } = image;
    if (this.top.width !== width) Object.assign(this.top, { width, height });
    this.top.getContext("2d").putImageData(this.blend(image), 0, 0);
  }

  drawScale() {
    if (!this.map) return;
    const { layer, signs } = this.select();
    const { colormap, threshold } = this.viewer.settings;
    const table = this.viewer.table(layer.signed ? this.viewer.data.diverging : colormap);
    const image = new ImageData(256, 1);
    for (let at = 0; at < 256; at++) {
      image.data.set([table[3 * at], table[3 * at + 1], table[3 * at + 2], 255], 4 * at);
    }
    this.bar.getContext("2d").putImageData(image, 0, 0);
    const contribution = layer.signed && this.map.kind === "contribution";
    const end = contribution ? format(layer.end * layer.unit) : "";
    this.low.textContent = layer.signed ? `against${end && ` −${end}`}` : "low";
    this.high.textContent = layer.signed ? `for${end && ` +${end}`}` : "high";
    const half = layer.signed ? 50 : 0;
    const wide = layer.signed ? threshold * 50 : threshold * 100;
    // What the threshold hides is hatched, and so is the other half where only values against count.
    const left = layer.signed ? half - wide : 0;
    const right = signs === "against" ? 100 : half + wide;
    this.veil.style.cssText = `left:${left}%;width:${right - left}%`;
    this.nothing = signs === "against" && !this.map.negative;
  }

  // Zoom and pan; the divider stands still on the stage while the image moves under it.
  place({ view, divider }) {
    const { zoom, x, y } = view;
    const shift = (at) => `${(0.5 - at * zoom) * 100}%`;
    this.content.style.transform = `translate(${shift(x)},${shift(y)}) scale(${zoom})`;
    this.content.classList.toggle("sharp", zoom > 4);
    this.content.style.setProperty("--zoom", zoom);
    const { tool } = this.viewer.group.state;
    this.stage.style.touchAction = zoom === 1 && tool === "move" ? "pan-y" : "none";
    this.stage.dataset.tool = tool;
    this.stage.classList.toggle("zoomed", zoom > 1);
    if (!this.map) return;
    const at = x + (divider.at - 0.5) / zoom;
    this.top.style.clipPath = divider.active ? `inset(0 0 0 ${at * 100}%)` : "";
    this.handle.hidden = !divider.active;
    this.handle.style.left = `${divider.at * 100}%`;
    this.handle.setAttribute("aria-valuenow", Math.round(divider.at * 100));
  }

  // The pointer's ring, and the value below it.
  point(pointer, view) {
    this.cross.hidden = !pointer;
    if (this.mark) this.mark.hidden = !pointer;
    if (!pointer) {
      this.reading.textContent = this.nothing ? "no values against" : "";
      return "";
    }
    const at = toStage(view, pointer.x, pointer.y);
    this.cross.style.left = `${at.x * 100}%`;
    this.cross.style.top = `${at.y * 100}%`;
    this.cross.hidden = at.x < 0 || at.x > 1 || at.y < 0 || at.y > 1;
    const { column, row } = this.viewer.sampleAt(pointer);
    if (!this.map) return (this.reading.textContent = `column ${column}, row ${row}`);
    const { layer } = this.select();
    const { value, scaled, beyond } = readValue(layer, column, row);
    const words = Number.isNaN(value) ? "no value" : describe(layer, value, beyond);
    this.reading.textContent = words;
    const held = Math.min(Math.max(scaled ?? 0, -1), 1);
    this.mark.style.left = `${(layer.signed ? (held + 1) / 2 : Math.max(held, 0)) * 100}%`;
    return `${words} at column ${column}, row ${row}`;
  }

  showShare(region) {
    region.draw(this.tint);
    this.share.hidden = region.count === 0;
    if (region.count === 0) return null;
    const area = region.count / region.mask.length;
    const words = [];
    let shares = null;
    if (this.map) {
      const { supporting } = region.measure(this.heatmap);
      const { opposing } = this.map.negative ? region.measure(this.signed) : { opposing: null };
      words.push(supporting === null ? "no evidence to share" : `${percent(supporting)} of the evidence`);
      if (opposing !== null) words.push(`${percent(opposing)} of the evidence against`);
      shares = { supporting, opposing };
    }
    words.push(`${percent(area)} of the image`);
    this.share.textContent = `Selection: ${words.join(" · ")}`;
    return shares;
  }

  // At the crop's own size, and whole, whatever is zoomed or covered now.
  async download() {
    const { data } = this.viewer;
    const image = await this.viewer.readWhole();
    const { width, height } = image;
    const canvas = element("canvas", { width, height });
    canvas.getContext("2d").putImageData(this.map ? this.blend(image) : image, 0, 0);
    if (image !== this.viewer.fine) this.rasters.delete(this.rasterKey(image));
    canvas.toBlob((blob) => {
      const link = element("a", {
        href: URL.createObjectURL(blob),
        download: `${data.stem}${this.map ? `.${this.name}` : ""}.png`,
      });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    });
  }

  moveDivider(at) {
    const { group } = this.viewer;
    change(group, { divider: { active: true, at: Math.min(Math.max(at, 0), 1) } });
  }
}

const percent = (share) => `${share > 0 && share < 0.1 ? (share * 100).toFixed(1) : Math.round(share * 100)}%`;

function format(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  return size < 0.001 || size >= 10000 ? size.toExponential(1) : String(Number(size.toPrecision(3)));
}

function describe(layer, value, beyond) {
  const least = beyond ? "≥ " : "";
  if (!layer.signed) return `${least}${value.toFixed(3)}`;
  return `${least}${value < 0 ? "−" : "+"}${format(value)}`;
}

// The viewer: an image and its maps side by side, under one toolbar.

import { Cell } from "./cell.js";
import { element, makeButton, makeHelp } from "./elements.js";
import { LateReport, nameLooks, readLooks, writeLooks } from "./looks.js";
import { pickMark } from "./marks.js";
import { decodeImage, decodeTable, readPixels } from "./raster.js";
import { Selection } from "./selection.js";
import { change, joinGroup, leaveGroup, resetView } from "./shared.js";
import { Toolbar } from "./toolbar.js";

const LARGEST = 1600; // side of the image on the screen; what is saved has all pixels
const MANY = 1.2e6; // pixels of all maps, above which a drag is drawn from a reduced image
const REDUCED = 512; // its longer side
const NARROWEST = 300; // of a cell, in pixels, where there is room
const GAP = 16; // between cells, as in the styles
const REST = 180; // milliseconds after the last change until it is drawn in full

export class Viewer {
  // report(name, value) is called with a finished "region", and late with the "looks".
  constructor(parent, data, report = () => {}) {
    Object.assign(this, { data, report, cells: [], dirty: {}, tables: {} });
    this.group = joinGroup(data.group);
    this.openWith(data.options);
    this.selection = new Selection(this);
    this.toolbar = new Toolbar(this);
    this.help = makeHelp();
    this.live = element("div", { class: "hidden", "aria-live": "polite" });
    this.grid = element("div", { class: "grid" });
    this.sizes = new ResizeObserver(() => this.arrange());
    this.sizes.observe(this.grid);
    this.makeStageDialog();
    this.node = element(
      "section",
      { class: "cam-viewer", "aria-label": `Maps for ${data.label}` },
      this.toolbar.node,
      this.grid,
      this.live,
      this.dialog,
      this.help,
    );
    this.node.addEventListener("keydown", (event) => {
      const { target } = event;
      const typing = target.matches("select, input[type=text]");
      const listed = !typing && !this.help.open && this.toolbar.press(event);
      if (listed) event.preventDefault();
      // The page has keys too, such as c and r.
      if (listed || typing) event.stopPropagation();
    });
    this.late = new LateReport(this.node, () => this.followAddress());
    parent.append(this.node);
    this.group.viewers.add(this);
    this.ready = this.load();
  }

  // What a link says counts when it changes; else what the visitor chose stays.
  openWith(options) {
    const text = JSON.stringify(options);
    if (this.group.given.get("options") !== text) {
      this.group.given.set("options", text);
      change(this.group, { settings: { ...options } });
    }
  }

  async load() {
    const whole = await decodeImage(this.data.crop);
    this.reduced = Math.max(whole.width, whole.height) > LARGEST;
    this.fine = this.reduced ? reduce(whole, LARGEST) : whole;
    const cells = [new Cell(this, null), ...this.data.maps.map((map) => new Cell(this, map))];
    await Promise.all(cells.map((cell) => cell.load()));
    this.cells = cells;
    this.active = cells[1] ?? cells[0];
    this.coarse = this.fine;
    const { width, height } = this.fine;
    if (width * height * (cells.length - 1) > MANY && Math.max(width, height) > REDUCED) {
      this.coarse = reduce(this.fine, REDUCED);
    }
    for (const cell of cells) cell.drawBase(this.fine);
    this.grid.replaceChildren(...cells.map((cell) => cell.node));
    this.arrange();
    this.drawFrame({ settings: true, view: true, pointer: true, region: true });
    this.node.dataset.ready = "true";
  }

  // Whether other data are the same maps of the same image, some of which grew.
  canGrow(data) {
    const name = ({ maps, grid, crop, label, stem, group }) =>
      JSON.stringify([maps.map((map) => [map.name, map.title]), grid, crop, label, stem, group]);
    return this.data.maps.some((map) => map.growing) && name(this.data) === name(data);
  }

  // New values are drawn where the old ones are: zoom, focus and selection stay.
  grow(data) {
    this.latest = data;
    this.ready = this.ready.then(async () => {
      if (this.latest !== data) return;
      const [, ...cells] = this.cells;
      const renew = await Promise.all(cells.map((cell, at) => cell.renew(data.maps[at])));
      for (const show of renew) show();
      this.data = data;
      this.drawFrame({ settings: true, view: true, region: true });
      this.node.dataset.grown = Number(this.node.dataset.grown ?? 0) + 1;
      // The shares of a selection are others now; the page hears of them once they stay.
      const settled = !data.maps.some((map) => map.growing);
      if (settled && this.selection.region.count > 0) this.reportRegion();
    });
  }

  readWhole() {
    return this.reduced ? decodeImage(this.data.crop) : this.fine;
  }

  // As many columns as fit, but rows of one length: five cells are three and two, not four and one.
  arrange() {
    const fitting = Math.max(Math.floor((this.grid.clientWidth + GAP) / (NARROWEST + GAP)), 1);
    const rows = Math.ceil(this.cells.length / fitting);
    this.grid.style.setProperty("--columns", Math.max(Math.ceil(this.cells.length / rows), 1) || 1);
  }

  get settings() {
    return this.group.state.settings;
  }

  table(name) {
    this.tables[name] ??= decodeTable(this.data.colormaps[name]);
    return this.tables[name];
  }

  sampleAt({ x, y }) {
    const [width, height] = this.data.grid;
    const hold = (at, size) => Math.min(Math.max(Math.floor(at * size), 0), size - 1);
    return { column: hold(x, width), row: hold(y, height) };
  }

  set(patch) {
    change(this.group, { settings: { ...this.settings, ...patch } });
  }

  schedule(patch) {
    const waiting = Object.keys(this.dirty).length > 0;
    Object.assign(this.dirty, patch);
    if (waiting) return;
    requestAnimationFrame(() => {
      const { dirty } = this;
      this.dirty = {};
      if (this.cells.length > 0) this.drawFrame(dirty);
    });
  }

  drawFrame(dirty) {
    const { state } = this.group;
    const has = (name) => Object.hasOwn(dirty, name);
    if (has("settings")) {
      this.drawMaps(this.coarse);
      clearTimeout(this.rest);
      if (this.coarse !== this.fine) this.rest = setTimeout(() => this.drawMaps(this.fine), REST);
    }
    for (const cell of this.cells) {
      if (has("settings")) cell.drawScale();
      if (has("view") || has("divider") || has("tool")) cell.place(state);
      if (has("view") || has("pointer") || has("settings")) cell.point(state.pointer, state.view);
    }
    if (has("region")) {
      const { region } = this.selection;
      this.shares = Object.fromEntries(
        this.cells.map((cell) => [cell.name, cell.showShare(region)]).filter(([name]) => name),
      );
    }
    this.toolbar.show();
  }

  drawMaps(image) {
    const start = performance.now();
    for (const cell of this.cells) cell.draw(image);
    this.milliseconds = performance.now() - start;
  }

  activate(cell) {
    this.active = cell;
  }

  // What a screen reader hears after the cursor has rested.
  announce() {
    clearTimeout(this.saying);
    this.saying = setTimeout(() => {
      const words = this.active.point(this.group.state.pointer, this.group.state.view);
      const share = this.active.share.hidden ? "" : `. ${this.active.share.textContent}`;
      this.live.textContent = words + share;
    }, 250);
  }

  // Whether a click on the image asks about what is there, as some pages have it.
  picksIn(map) {
    return !map && Boolean(this.data.marks) && Boolean(this.data.report?.includes("pick"));
  }

  // Ask about the box or the place below a point; false where there is none.
  pick(cell, point) {
    const picked = this.picksIn(cell.map) ? pickMark(this.data.marks, point) : null;
    if (!picked) return false;
    // With the time, as the same place may be picked again after Back.
    this.report("pick", { ...picked, digest: this.data.digest, at: performance.now() });
    return true;
  }

  reportRegion() {
    const { region } = this.selection;
    this.schedule({ region: true });
    requestAnimationFrame(() => {
      this.announce();
      this.report("region", region.count === 0 ? null : {
        box: region.box,
        mask: region.pack(),
        grid: this.data.grid,
        active: this.active.name,
        shares: this.shares,
        digest: this.data.digest,
      });
    });
  }

  // On a page whose address says how maps are drawn.
  keepLooks() {
    if (!this.data.looks) return;
    const looks = nameLooks(this.settings, this.data.looks);
    writeLooks(looks);
    const text = JSON.stringify(this.settings);
    this.late.keep(() => {
      // The server's answer is no news: what the visitor changes meanwhile stays.
      this.group.given.set("options", text);
      // With the time, as the same looks may be chosen again after Back.
      this.report("looks", { ...looks, at: performance.now() });
    });
  }

  // After Back or Forward.
  followAddress() {
    if (!this.data.looks) return;
    const settings = readLooks(this.data.looks, this.toolbar.listChoices());
    this.group.given.set("options", JSON.stringify(settings));
    change(this.group, { settings });
  }

  makeStageDialog() {
    const step = (by) => () => this.enlargeNext(by);
    this.previous = makeButton("previous", "Previous map", step(-1), { shortcut: "Page up" });
    this.next = makeButton("next", "Next map", step(1), { shortcut: "Page down" });
    this.close = makeButton("clear", "Close", () => this.dialog.close(), { shortcut: "Escape" });
    this.holder = element("div", { class: "holder" });
    const { size } = this.data;
    this.dialog = element(
      "dialog",
      {
        class: "full",
        "aria-label": "Enlarged map",
        style: `--ratio:${size[0] / size[1]}`,
      },
      element("div", { class: "tools" }),
      this.holder,
      element("div", { class: "steps" }, this.previous, this.next, this.close),
    );
    this.dialog.addEventListener("close", () => this.putBack());
    this.dialog.addEventListener("keydown", (event) => {
      const pages = { PageUp: -1, PageDown: 1 };
      const free = this.group.state.tool === "move" && !event.target.matches("input, [role=slider]");
      const by = pages[event.key] ?? (free && !event.altKey && { ArrowLeft: -1, ArrowRight: 1 }[event.key]);
      if (!by) return;
      event.preventDefault();
      event.stopPropagation();
      this.enlargeNext(by);
    }, { capture: true });
  }

  enlarge(cell) {
    if (this.dialog.open && this.enlarged === cell) return this.dialog.close();
    this.putBack();
    this.enlarged = cell;
    this.gap = element("figure", { class: "cell gap", style: `height:${cell.node.offsetHeight}px` });
    cell.node.replaceWith(this.gap);
    this.holder.replaceChildren(cell.node);
    this.dialog.firstChild.replaceChildren(this.toolbar.node);
    if (!this.dialog.open) this.dialog.showModal();
    cell.stage.focus({ preventScroll: true });
    this.activate(cell);
    return undefined;
  }

  enlargeNext(by) {
    const at = this.cells.indexOf(this.enlarged) + by;
    this.enlarge(this.cells.at(at % this.cells.length));
  }

  putBack() {
    if (!this.enlarged) return;
    const { node, stage } = this.enlarged;
    this.gap.replaceWith(node);
    this.node.prepend(this.toolbar.node);
    this.enlarged = null;
    if (!this.dialog.open) stage.focus({ preventScroll: true });
  }

  dispose() {
    clearTimeout(this.rest);
    this.late.end();
    this.sizes.disconnect();
    leaveGroup(this.group, this);
    this.node.remove();
  }
}

function reduce(image, side) {
  const { width, height } = image;
  const share = side / Math.max(width, height);
  const canvas = element("canvas", { width, height });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return readPixels(canvas, Math.round(width * share), Math.round(height * share));
}

// Called by a page's component at each run; the viewer stays while its data do.
const mounted = new WeakMap();

export default function mount({ data, parentElement, setStateValue }) {
  const report = (name, value) => {
    if (name === "looks" || data.report?.includes(name)) setStateValue(name, value);
  };
  const held = mounted.get(parentElement) ?? {};
  mounted.set(parentElement, held);
  clearTimeout(held.leaving);
  // Of runs that overtake each other, only the last one's end may take the viewer away.
  const turn = (held.turn = {});
  const old = held.viewer;
  if (old?.data.digest === data.digest) {
    old.report = report;
    old.openWith(data.options);
  } else if (old?.canGrow(data)) {
    old.report = report;
    old.openWith(data.options);
    old.grow(data);
  } else {
    held.viewer = new Viewer(parentElement, data, report);
    // The old one stays until the new one is drawn, so that nothing blinks.
    if (old) {
      if (old.data.crop !== data.crop) resetView(old.group);
      // Or it would be there again on the server alone, when these data come back.
      if (old.selection.region.count > 0) report("region", null);
      held.viewer.late.keep(old.late.send);
      const { node, ready } = held.viewer;
      node.classList.add("arriving");
      ready.then(() => {
        node.classList.remove("arriving");
        old.dispose();
      });
    }
  }
  return () => {
    held.leaving = setTimeout(() => {
      if (held.turn !== turn) return;
      held.viewer.dispose();
      mounted.delete(parentElement);
    }, 500);
  };
}

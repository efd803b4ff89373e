// A box or a stroke from its start to its end, which may still be taken back.

import { Region } from "./region.js";

const BRUSH = 0.045; // its radius, as a share of the longer side

export class Selection {
  constructor(viewer) {
    const [width, height] = viewer.data.grid;
    Object.assign(this, { viewer, active: null, region: new Region(width, height) });
    this.radius = Math.max(1, Math.max(width, height) * BRUSH);
  }

  start(tool, point, erase) {
    const { region } = this;
    const from = this.viewer.sampleAt(point);
    this.before = { mask: region.mask.slice(), box: region.box, count: region.count };
    this.active = { tool, from, last: from, value: erase ? 0 : 1 };
    this.extend(point);
  }

  extend(point) {
    if (!this.active) return;
    const { tool, from, last, value } = this.active;
    const to = this.viewer.sampleAt(point);
    if (tool === "box") this.region.setBox(from, to);
    else this.region.paint(last, to, this.radius, value);
    this.active.last = to;
    this.viewer.schedule({ region: true });
  }

  end() {
    if (!this.active) return;
    const { tool, from, last } = this.active;
    this.active = null;
    // A click without a drag draws no box, and takes back the one that is there.
    if (tool === "box" && from.column === last.column && from.row === last.row) this.region.clear();
    this.viewer.schedule({ region: true });
    this.viewer.reportRegion();
  }

  cancel() {
    if (!this.active) return;
    this.active = null;
    Object.assign(this.region, this.before);
    this.viewer.schedule({ region: true });
  }

  clear() {
    this.active = null;
    const empty = this.region.count === 0;
    this.region.clear();
    this.viewer.schedule({ region: true });
    if (!empty) this.viewer.reportRegion();
  }
}

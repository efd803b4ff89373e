// The toolbar that all maps of a viewer share.

import { element, makeButton, makeSelect, makeSlider, makeSwitch } from "./elements.js";
import { change, holdView, zoomAround } from "./shared.js";

const SIGNS = [
  ["auto", "Automatic"],
  ["both", "For and against"],
  ["for", "Only for"],
  ["against", "Only against"],
];

export class Toolbar {
  constructor(viewer) {
    const { data, group } = viewer;
    this.viewer = viewer;
    const commit = () => viewer.keepLooks();
    const tool = (name, label, key) =>
      makeButton(name, label, () => this.choose(name), { pressed: "false", shortcut: key });
    this.tools = {
      move: tool("move", "Move and zoom", "M"),
      box: tool("box", "Select a box", "B"),
      brush: tool("brush", "Select with a brush", "P"),
    };
    this.compare = makeButton("compare", "Before and after", () => this.toggleDivider(), {
      pressed: "false",
      shortcut: "C",
    });
    this.clear = makeButton("clear", "Clear the selection", () => viewer.selection.clear(), {
      shortcut: "X",
    });
    this.zoom = element("output", { class: "zoom", "aria-label": "Zoom" });
    const zoomBy = (factor) => () => this.zoomBy(factor);
    this.opacity = makeSlider("Opacity", (alpha) => viewer.set({ alpha }), commit);
    this.threshold = makeSlider("Threshold", (threshold) => viewer.set({ threshold }), commit);
    this.threshold.label.title = "Hide values below this fraction of the maximum";
    const switchTitle = "Where there is no evidence the image stays exactly as photographed";
    this.fade = makeSwitch("Follows the evidence", switchTitle, (fade) => {
      viewer.set({ fade });
      commit();
    });
    const colormaps = Object.keys(data.colormaps).filter((name) => name !== data.diverging);
    this.colormap = makeSelect("Colour map", colormaps.map((name) => [name, name]), (colormap) => {
      viewer.set({ colormap });
      commit();
    });
    this.signs = makeSelect("Signs", SIGNS, (signs) => {
      viewer.set({ signs });
      commit();
    });
    this.signs.label.hidden = !data.maps.some((map) => map.negative || map.signed);
    const settings = element(
      "div",
      { class: "settings", id: "settings" },
      this.opacity.label,
      this.fade.label,
      this.threshold.label,
      this.colormap.label,
      this.signs.label,
    );
    this.more = makeButton("sliders", "Opacity, threshold and colours", () => {
      const open = this.more.getAttribute("aria-expanded") !== "true";
      this.more.setAttribute("aria-expanded", open);
      settings.classList.toggle("open", open);
    }, { kind: "more" });
    this.more.setAttribute("aria-expanded", "false");
    const toolset = (label, ...children) =>
      element("div", { class: "group", role: "group", "aria-label": label }, ...children);
    const nothing = data.maps.length === 0;
    this.node = element(
      "div",
      { class: "toolbar", role: "group", "aria-label": "Viewer" },
      toolset("Tools", this.tools.move, this.tools.box, this.tools.brush, this.clear),
      ...(nothing ? [] : [this.compare]),
      toolset(
        "Zoom",
        makeButton("minus", "Zoom out", zoomBy(1 / 1.5), { shortcut: "-" }),
        this.zoom,
        makeButton("plus", "Zoom in", zoomBy(1.5), { shortcut: "+" }),
      ),
      ...(nothing ? [] : [this.more, settings]),
      element(
        "div",
        { class: "end" },
        makeButton("reset", "Reset", () => this.reset(), { shortcut: "R" }),
        makeButton("help", "Keyboard shortcuts", () => viewer.help.showModal(), { shortcut: "?" }),
      ),
    );
    this.group = group;
  }

  listChoices() {
    const list = ({ select }) => [...select.options].map((option) => option.value);
    return { colormap: list(this.colormap), signs: list(this.signs) };
  }

  choose(tool) {
    this.viewer.selection.cancel();
    change(this.group, { tool });
  }

  zoomBy(factor) {
    change(this.group, { view: zoomAround(this.group.state.view, factor, 0.5, 0.5) });
  }

  toggleDivider() {
    const { divider } = this.group.state;
    change(this.group, { divider: { active: !divider.active, at: divider.active ? divider.at : 0.5 } });
  }

  reset() {
    const { viewer } = this;
    viewer.selection.clear();
    change(this.group, {
      view: holdView({ zoom: 1, x: 0.5, y: 0.5 }),
      divider: { active: false, at: 0.5 },
      settings: { ...viewer.data.options },
      tool: "move",
    });
    viewer.keepLooks();
  }

  show() {
    const { settings, tool, view, divider } = this.group.state;
    for (const [name, button] of Object.entries(this.tools)) {
      button.setAttribute("aria-pressed", name === tool);
    }
    this.compare.setAttribute("aria-pressed", divider.active);
    this.zoom.textContent = `${Math.round(view.zoom * 100)}%`;
    this.opacity.show(settings.alpha);
    this.threshold.show(settings.threshold);
    this.fade.input.checked = settings.fade;
    this.colormap.select.value = settings.colormap;
    this.signs.select.value = settings.signs;
    this.clear.hidden = this.viewer.selection.region.count === 0;
  }

  // Keys that work wherever the focus is in the viewer, but not while one writes or slides.
  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    const keys = {
      m: () => this.choose("move"),
      b: () => this.choose("box"),
      p: () => this.choose("brush"),
      c: () => this.toggleDivider(),
      x: () => this.viewer.selection.clear(),
      e: () => {
        this.viewer.set({ fade: !this.group.state.settings.fade });
        this.viewer.keepLooks();
      },
      r: () => this.reset(),
      "+": () => this.zoomBy(1.5),
      "=": () => this.zoomBy(1.5),
      "-": () => this.zoomBy(1 / 1.5),
      0: () => change(this.group, { view: holdView({ zoom: 1, x: 0.5, y: 0.5 }) }),
      "?": () => this.viewer.help.showModal(),
    };
    const act = keys[event.key.toLowerCase()];
    act?.();
    return Boolean(act);
  }
}

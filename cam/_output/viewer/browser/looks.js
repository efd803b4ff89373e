// How maps are drawn, in the page's own address: a choice is an entry of the browser's history.

const NAMES = { alpha: "opacity", fade: "fade", threshold: "threshold", colormap: "colormap", signs: "signs" };

export function nameLooks(settings, defaults) {
  const looks = {};
  for (const [name, parameter] of Object.entries(NAMES)) {
    const value = settings[name];
    if (value === defaults[name]) looks[parameter] = null;
    else looks[parameter] = typeof value === "number" ? String(Number(value.toFixed(2))) : String(value);
  }
  return looks;
}

export function writeLooks(looks) {
  const address = new URL(window.location.href);
  for (const [parameter, text] of Object.entries(looks)) {
    if (address.searchParams.get(parameter) === text) continue;
    address.searchParams.delete(parameter);
    if (text !== null) address.searchParams.append(parameter, text);
  }
  if (address.href !== window.location.href) window.history.pushState({}, "", address);
}

// What the address says; where it says nothing, or nothing that can be drawn, the default.
export function readLooks(defaults, choices) {
  const { searchParams } = new URL(window.location.href);
  const read = (name) => {
    const start = defaults[name];
    const text = searchParams.getAll(NAMES[name]).at(-1);
    if (!text) return start;
    if (typeof start === "boolean") return text === "true" || (text !== "false" && start);
    if (typeof start === "number") return Number(text) >= 0 && Number(text) <= 1 ? Number(text) : start;
    return choices[name].includes(text) ? text : start;
  };
  return Object.fromEntries(Object.keys(NAMES).map((name) => [name, read(name)]));
}

// A page's server hears of it before the visitor's next step outside of the viewer: so a drag runs
// nothing there, and what is copied or downloaded afterwards looks as it does here. Back and Forward
// take back what it has not heard of; it may have nothing new to say then.
export class LateReport {
  constructor(node, onMove) {
    this.node = node;
    this.ended = new AbortController();
    const { signal } = this.ended;
    for (const kind of ["pointerdown", "focusin"]) {
      document.addEventListener(kind, (event) => {
        if (!event.composedPath().includes(node)) this.flush();
      }, { capture: true, signal });
    }
    window.addEventListener("popstate", () => {
      this.send = null;
      onMove();
    }, { signal });
  }

  keep(send) {
    this.send = send;
  }

  flush() {
    const { send } = this;
    this.send = null;
    if (this.node.isConnected) send?.();
  }

  end() {
    this.ended.abort();
  }
}

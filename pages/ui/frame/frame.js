// What is around every page: the connection, keyboard shortcuts, and what screen readers hear.
// One for the tab; Streamlit mounts the component anew with each page.

const POLL = 4000; // milliseconds between two looks at the server
const QUIET = 5000; // and between two announcements of progress

const SHORTCUTS = [
  ["1 … 9", "Switch a method on or off"],
  ["[ and ]", "Previous or next sample image"],
  ["Space", "Image or map, in the viewer"],
  ["g, then e a c d p", "Go to Explore, Anatomy, Compare, Datasets, Performance"],
  ["?", "Show these shortcuts; in the viewer, its own"],
];
const NO_TEXT = ["checkbox", "range", "radio"].map((kind) => `:not([type=${kind}])`).join("");
const PAGES = { e: "Explore", a: "Anatomy", c: "Compare", d: "Datasets", p: "Performance" };

class Frame {
  constructor() {
    this.live = this.add("div", { className: "cam-frame-live", ariaLive: "polite" });
    this.banner = this.add("div", { className: "cam-frame-banner", role: "alert", hidden: true });
    this.sheet = this.makeSheet();
    document.addEventListener("keydown", (event) => this.press(event));
    new MutationObserver(() => this.mend()).observe(document.body, { childList: true, subtree: true });
    this.mend();
    setInterval(() => this.look(), POLL);
    setInterval(() => this.hearProgress(), QUIET);
  }

  // Streamlit's uploader has a name and says that it is nothing, which screen readers take as both.
  mend() {
    for (const node of document.querySelectorAll("[data-testid=stFileUploaderDropzone][role=presentation]")) {
      node.setAttribute("role", "group");
    }
  }

  add(kind, values) {
    const node = Object.assign(document.createElement(kind), values);
    document.body.append(node);
    return node;
  }

  makeSheet() {
    const sheet = this.add("dialog", { className: "cam-frame-sheet", ariaLabel: "Keyboard shortcuts" });
    const title = Object.assign(document.createElement("h2"), { textContent: "Keyboard shortcuts" });
    const list = document.createElement("dl");
    for (const [keys, meaning] of SHORTCUTS) {
      for (const [kind, text] of [["dt", keys], ["dd", meaning]]) {
        list.append(Object.assign(document.createElement(kind), { textContent: text }));
      }
    }
    const close = Object.assign(document.createElement("button"), { textContent: "Close" });
    close.addEventListener("click", () => sheet.close());
    sheet.append(title, list, close);
    return sheet;
  }

  // After a restart the server knows nothing of this tab's clicks; the address knows every choice.
  follow({ boot, theme }) {
    if (this.boot && boot !== this.boot) window.location.reload();
    this.boot = boot;
    // The sheet is outside of the page, whose theme need not be the browser's.
    if (theme) this.sheet.style.colorScheme = theme;
  }

  say(text) {
    if (!text || text === this.said) return;
    this.live.textContent = text;
    this.said = text;
  }

  async look() {
    let here = false;
    try {
      here = (await fetch("/_stcore/health", { cache: "no-store" })).ok;
    } catch {
      here = false;
    }
    if (here === this.banner.hidden) return undefined;
    // Streamlit reconnects, but draws nothing before the next click, which a new server would lose.
    if (here) return window.location.reload();
    this.banner.hidden = false;
    this.banner.textContent =
      "The connection to the server is lost. This page goes on as soon as the server answers.";
    return undefined;
  }

  hearProgress() {
    const bars = [...document.querySelectorAll("[data-testid=stProgress]")];
    const text = bars.map((bar) => bar.textContent.trim()).filter(Boolean).join(". ");
    if (text) this.say(text);
    else if (this.working) this.say("Done.");
    this.working = text !== "";
  }

  press(event) {
    const { target, key } = event;
    const typing = target.matches?.(`input${NO_TEXT}, textarea, select, [contenteditable=true]`);
    if (typing || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    // An open dialog has keys of its own, this sheet and one within the viewer.
    if (event.composedPath().some((node) => node.localName === "dialog" && node.open)) return;
    if (key === "Shift") return;
    const after = this.before === "g" && PAGES[key];
    this.before = key;
    if (after) return this.click(`.st-key-menu a`, (link) => link.textContent.includes(after));
    if (key === "?") return this.sheet.showModal();
    if (key >= "1" && key <= "9") return this.pick(".st-key-quick button[data-variant=pills]", Number(key) - 1);
    if (key === "[" || key === "]") return this.step(key === "]" ? 1 : -1);
    return undefined;
  }

  click(selector, fits) {
    [...document.querySelectorAll(selector)].find(fits)?.click();
  }

  pick(selector, index) {
    document.querySelectorAll(selector)[index]?.click();
  }

  step(by) {
    const samples = [...document.querySelectorAll(".st-key-sample button[data-variant=pills]")];
    const at = samples.findIndex((sample) => sample.ariaChecked === "true");
    samples.at((at + by) % samples.length)?.click();
  }
}

export default function mount({ data }) {
  window.camFrame ??= new Frame();
  window.camFrame.follow(data);
  window.camFrame.say(data.message);
}

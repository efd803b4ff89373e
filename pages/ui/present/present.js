// The stage of a presentation: a dialog over the whole window, so that the page behind is inert.

const OPACITY = 0.85;
const HTML = `
<dialog aria-label="Presentation">
  <div class="stage">
    <div class="top">
      <h1 aria-live="polite"></h1><span class="chance"></span><span class="name"></span>
    </div>
    <div class="maps"></div>
    <div class="problem" role="alert"></div>
    <div class="foot">
      <div class="keys">
        <button type="button" class="back" title="Image before (arrow left)" aria-label="Image before">←</button>
        <button type="button" class="next" title="Next image (arrow right)" aria-label="Next image">→</button>
        <button type="button" class="blend" title="Maps on or off (space)" aria-pressed="true">Maps</button>
        <button type="button" class="leave" title="Leave (Escape)">Leave</button>
      </div>
    </div>
  </div>
</dialog>`;

class Stage {
  constructor(parent) {
    const holder = document.createElement("div");
    holder.innerHTML = HTML;
    parent.append(holder);
    this.holder = holder;
    this.find = (selector) => holder.querySelector(selector);
    this.dialog = this.find("dialog");
    this.stage = this.find(".stage");
    this.opacity = OPACITY;
    this.find(".back").onclick = () => this.move("back");
    this.find(".next").onclick = () => this.move("next");
    this.find(".blend").onclick = () => this.toggle();
    this.find(".leave").onclick = () => this.leave();
    this.dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      this.leave();
    });
    this.dialog.addEventListener("keydown", (event) => this.press(event));
    // In full screen the browser takes Escape for itself.
    this.stage.addEventListener("fullscreenchange", () => {
      if (!document.fullscreenElement) this.leave();
    });
    this.dialog.showModal();
    this.find(".next").focus({ focusVisible: false });
    // Only a click allows it: a link opens over the window.
    this.stage.requestFullscreen?.().catch(() => {});
  }

  press(event) {
    const keys = { ArrowLeft: "back", ArrowUp: "back", ArrowRight: "next", ArrowDown: "next" };
    if (event.key in keys) this.move(keys[event.key]);
    else if (event.key === " " && event.target.tagName !== "BUTTON") this.toggle();
    else if (event.key === "m") this.toggle();
    else if (event.key === "f") this.stage.requestFullscreen?.().catch(() => {});
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  move(way) {
    this.stage.classList.add("busy");
    this.send("move", way);
  }

  leave() {
    if (this.left) return;
    this.left = true;
    this.close();
    this.send("leave", true);
  }

  toggle() {
    this.opacity = this.opacity ? 0 : OPACITY;
    this.find(".blend").setAttribute("aria-pressed", String(this.opacity > 0));
    this.draw();
  }

  async take(data, send) {
    this.send = send;
    const text = JSON.stringify([data.image, data.maps, data.label, data.problem]);
    if (text === this.text) return;
    this.text = text;
    const image = await decode(data.image, "image/jpeg");
    const maps = await Promise.all(data.maps.map(({ map }) => decode(map, "image/png")));
    if (text !== this.text) return; // another image came meanwhile
    Object.assign(this, { image, maps, tables: decodeTables(data.tables), signs: data.maps.map((map) => map.signed) });
    this.find("h1").textContent = data.label;
    this.find(".chance").textContent = `${(100 * (data.probability ?? 0)).toFixed(0)} %`;
    this.find(".name").textContent = data.name;
    this.find(".chance").hidden = data.probability === null;
    this.find(".maps").replaceChildren(
      ...data.maps.map(({ title }) => {
        const figure = document.createElement("figure");
        const canvas = document.createElement("canvas");
        canvas.setAttribute("role", "img");
        canvas.setAttribute("aria-label", `${title} heatmap for ${data.label}`);
        const caption = document.createElement("figcaption");
        caption.textContent = title;
        figure.append(canvas, caption);
        return figure;
      }),
    );
    for (const old of this.stage.querySelectorAll(".figure")) old.remove();
    this.find(".foot").prepend(
      ...data.figures.map(([number, meaning]) => {
        const figure = document.createElement("div");
        figure.className = "figure";
        const bold = document.createElement("b");
        bold.textContent = number;
        const line = document.createElement("span");
        line.textContent = meaning;
        figure.append(bold, line);
        return figure;
      }),
    );
    this.find(".problem").textContent = data.problem;
    this.draw();
    this.stage.classList.remove("busy");
    this.stage.dataset.label = data.label;
  }

  draw() {
    this.stage.querySelectorAll("canvas").forEach((canvas, index) => {
      const context = canvas.getContext("2d", { willReadFrequently: true });
      blend(context, this.image, this.maps[index], this.tables, this.opacity, this.signs[index]);
    });
  }

  remove() {
    this.left = true; // by Back: there is nobody to tell
    this.close();
    this.holder.remove();
  }

  close() {
    if (document.fullscreenElement) document.exitFullscreen().catch(() => {});
    this.dialog.close();
  }
}

const stages = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  if (!stages.has(parentElement)) stages.set(parentElement, new Stage(parentElement));
  const stage = stages.get(parentElement);
  stage.take(data, (name, value) => setTriggerValue(name, value));
  return () => {
    stages.delete(parentElement);
    stage.remove();
  };
}

// The report's images open in the viewer, one at a time.

const views = readPayloads();
const figures = [...document.querySelectorAll("figure[data-view]")];
const title = element("h2", { id: "viewer-title" });
const stage = element("div");
const step = (by) => () => open(figures.at((figures.indexOf(opened) + by) % figures.length));
const dialog = element(
  "dialog",
  { class: "viewer", "aria-labelledby": "viewer-title" },
  element(
    "header",
    {},
    title,
    element("button", { type: "button", text: "‹", "aria-label": "Previous image", onclick: step(-1) }),
    element("button", { type: "button", text: "›", "aria-label": "Next image", onclick: step(1) }),
    element("button", { type: "button", text: "Close", onclick: () => dialog.close() }),
  ),
  stage,
);
let opened = null;
let viewer = null;

function open(figure) {
  opened = figure;
  const data = views[Number(figure.dataset.view)];
  const first = data.maps.filter((map) => map.name === figure.dataset.method);
  const maps = [...first, ...data.maps.filter((map) => !first.includes(map))];
  viewer?.dispose();
  viewer = window.camViewer = new Viewer(stage, { ...data, maps });
  title.textContent = figure.querySelector("img").alt;
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}

dialog.addEventListener("close", () => {
  // The viewer's dialogs within this one close too, and are none of its ends.
  if (dialog.open) return;
  viewer.dispose();
  viewer = null;
  opened.querySelector("button").focus();
});
for (const figure of figures) {
  const image = figure.querySelector("img");
  const button = element("button", { type: "button", "aria-label": `Open ${image.alt}` });
  image.replaceWith(button);
  button.append(image);
  button.addEventListener("click", () => open(figure));
}
for (const node of document.querySelectorAll("[data-scripted]")) node.hidden = false;
document.body.append(dialog);

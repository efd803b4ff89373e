// Make the elements of the viewer: buttons, sliders, choices, dialogs.

const PATHS = {
  move: "M10 3v14M3 10h14M10 3l-2.2 2.2M10 3l2.2 2.2M10 17l-2.2-2.2M10 17l2.2-2.2M3 10l2.2-2.2M3 10l2.2 2.2M17 10l-2.2-2.2M17 10l-2.2 2.2",
  box: "M4 7V4h3M13 4h3v3M16 13v3h-3M7 16H4v-3",
  brush: "M16.5 3.5 9 11M8.6 10.6c-2.4 0-3.4 1.5-3.4 3.2 0 1-.8 1.9-2.2 2 .9.9 2.3 1.2 3.6 1.2 2.3 0 4-1.5 4-3.6z",
  compare: "M10 2.5v15M7.5 5H3.5v10h4M12.5 5h4v10h-4",
  plus: "M10 4.5v11M4.5 10h11",
  minus: "M4.5 10h11",
  fit: "M3.5 7.5v-4h4M16.5 7.5v-4h-4M3.5 12.5v4h4M16.5 12.5v4h-4",
  reset: "M4 10a6 6 0 1 0 2-4.5M4 3.5v3h3",
  clear: "M5 5l10 10M15 5 5 15",
  help: "M7.6 7.4c.2-1.3 1.2-2.1 2.5-2.1 1.4 0 2.4.9 2.4 2.1 0 1.9-2.5 1.9-2.5 4M10 14.6v.1",
  expand: "M11.5 3.5h5v5M16.5 3.5l-6 6M8.5 16.5h-5v-5M3.5 16.5l6-6",
  download: "M10 3.5v9M6.2 9 10 12.8 13.8 9M4 16.5h12",
  previous: "M12.5 4.5 7 10l5.5 5.5",
  next: "M7.5 4.5 13 10l-5.5 5.5",
  sliders: "M3.5 6h7M14.5 6h2M3.5 14h2M9.5 14h7M12.5 4v4M7.5 12v4",
};

export function element(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (value === null || value === undefined) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "text") made.textContent = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export function drawIcon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(svg.namespaceURI, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

export function makeButton(icon, label, onclick, options = {}) {
  const { pressed, shortcut, kind = "" } = options;
  return element(
    "button",
    {
      type: "button",
      class: `icon ${kind}`,
      "aria-label": label,
      title: shortcut ? `${label} (${shortcut})` : label,
      "aria-pressed": pressed,
      "aria-keyshortcuts": shortcut?.length === 1 ? shortcut : null,
      onclick,
    },
    drawIcon(icon),
  );
}

// A slider of percentages, with its value beside its name.
export function makeSlider(name, oninput, onchange) {
  const output = element("output");
  const input = element("input", {
    type: "range",
    min: 0,
    max: 100,
    step: 1,
    "aria-label": name,
    oninput: () => oninput(input.valueAsNumber / 100),
    onchange,
  });
  const label = element("label", { class: "slider" }, element("span", { text: name }), output, input);
  const show = (share) => {
    const percent = Math.round(share * 100);
    if (input.valueAsNumber !== percent) input.value = percent;
    input.style.setProperty("--filled", `${percent}%`);
    output.textContent = `${percent}%`;
  };
  return { label, input, show };
}

export function makeSelect(name, choices, onchange) {
  const select = element("select", { "aria-label": name, onchange: () => onchange(select.value) });
  for (const [value, title] of choices) select.append(element("option", { value, text: title }));
  return { label: element("label", { class: "choice" }, element("span", { text: name }), select), select };
}

export function makeSwitch(name, title, onchange) {
  const input = element("input", {
    type: "checkbox",
    role: "switch",
    onchange: () => onchange(input.checked),
  });
  return { label: element("label", { class: "switch", title }, input, element("span", { text: name })), input };
}

const KEYS = [
  ["M · B · P", "move · box · brush"],
  ["Arrows", "move the cursor; with Shift one pixel; with Alt the view"],
  ["Enter", "start and end a box or a stroke; enlarge a map"],
  ["Escape", "cancel a box, leave full screen"],
  ["X", "clear the selection"],
  ["C", "before and after: a divider"],
  ["+ · − · 0", "zoom in, out, fit"],
  ["E", "opacity follows the evidence"],
  ["R", "reset everything"],
  ["Page up · down", "in full screen: the previous, the next map"],
  ["Alt + drag", "erase with the brush"],
  ["?", "this list"],
];

export function makeHelp() {
  const rows = KEYS.flatMap(([keys, meaning]) => [
    element("dt", {}, element("kbd", { text: keys })),
    element("dd", { text: meaning }),
  ]);
  const close = element("button", { type: "button", class: "plain", text: "Close" });
  const dialog = element(
    "dialog",
    { class: "help", "aria-label": "Keyboard shortcuts of the viewer" },
    element("h2", { text: "Keyboard" }),
    element("dl", {}, ...rows),
    close,
  );
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  return dialog;
}

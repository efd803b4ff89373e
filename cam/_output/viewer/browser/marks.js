// Boxes and segments over an image: how they are drawn, and which of them a click picks.

import { element, makeSwitch } from "./elements.js";

const FEW = 6; // boxes whose whole title is drawn

// Over the image all of them; over a map the box that is explained.
export function drawMarks(marks, overMap) {
  const layer = element("div", { class: "marks", "aria-hidden": "true" });
  if (!marks) return layer;
  if (marks.mask && !overMap) layer.append(element("img", { src: marks.mask, alt: "" }));
  const boxes = overMap ? marks.boxes.filter(({ explained }) => explained) : marks.boxes;
  boxes.forEach(({ sides, title, explained }) => {
    const [left, top, right, bottom] = sides.map((side) => Math.min(Math.max(side, 0), 1));
    const share = (value) => `${(value * 100).toFixed(3)}%`;
    const short = explained || boxes.length <= FEW ? title : title.split(":")[0];
    const style =
      `left:${share(left)};top:${share(top)};width:${share(right - left)};` +
      `height:${share(bottom - top)}`;
    layer.append(
      element(
        "div",
        { class: explained ? "box explained" : "box", style },
        ...(overMap ? [] : [element("span", { class: top < 0.06 ? "in" : "", text: short })]),
      ),
    );
  });
  return layer;
}

// The smallest box around a point, or the point where there are segments; null for nothing.
export function pickMark(marks, { x, y }) {
  const around = marks.boxes.filter(
    ({ name, sides: [left, top, right, bottom] }) =>
      name && x >= left && x <= right && y >= top && y <= bottom,
  );
  const area = ({ sides: [left, top, right, bottom] }) => (right - left) * (bottom - top);
  around.sort((first, second) => area(first) - area(second));
  if (around.length > 0) return { name: around[0].name, x, y };
  return marks.mask ? { name: "", x, y } : null;
}

// What the colours mean, and a switch that takes all of it away from the image.
export function makeLegend(marks, layer) {
  const name = marks.mask ? "Segments" : "Boxes";
  const { label, input } = makeSwitch(name, `Draw them over the image`, (on) => {
    layer.hidden = !on;
  });
  input.checked = true;
  const entries = marks.legend.map(({ title, colour, share }) =>
    element(
      "li",
      {},
      element("i", { style: `background:${colour}`, "aria-hidden": "true" }),
      element("span", { text: `${title} ${(share * 100).toFixed(share < 0.1 ? 1 : 0)}%` }),
    ),
  );
  const list = entries.length > 0 ? [element("ul", {}, ...entries)] : [];
  return element("div", { class: "legend" }, label, ...list);
}

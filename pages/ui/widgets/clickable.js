// HTML of the server whose buttons report what was picked; arrows move among the buttons.

const BUTTONS = "button[data-pick]";

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  let root = parentElement.querySelector(".clickable");
  if (!root) {
    root = document.createElement("div");
    root.className = "clickable";
    parentElement.append(root);
  }
  if (root.shown !== data.html) {
    root.innerHTML = data.html;
    root.shown = data.html;
    const buttons = [...root.querySelectorAll(BUTTONS)];
    // One stop for Tab in a grid of 200; arrows go on from there.
    buttons.forEach((button, index) => (button.tabIndex = index ? -1 : 0));
  }
  root.onclick = (event) => {
    const button = event.target.closest(BUTTONS);
    if (button) setTriggerValue("pick", button.dataset.pick);
  };
  root.onkeydown = (event) => {
    const buttons = [...root.querySelectorAll(BUTTONS)];
    const from = buttons.indexOf(event.target.closest(BUTTONS));
    const to = from < 0 ? -1 : step(buttons, from, event.key);
    if (to < 0) return;
    event.preventDefault();
    buttons[from].tabIndex = -1;
    buttons[to].tabIndex = 0;
    buttons[to].focus();
  };
}

function step(buttons, from, key) {
  const last = buttons.length - 1;
  if (key === "Home") return 0;
  if (key === "End") return last;
  if (key === "ArrowRight") return Math.min(from + 1, last);
  if (key === "ArrowLeft") return Math.max(from - 1, 0);
  if (key !== "ArrowDown" && key !== "ArrowUp") return -1;
  // The nearest one of the next row, however wide the rows are.
  const here = buttons[from].getBoundingClientRect();
  const way = key === "ArrowDown" ? 1 : -1;
  let best = from;
  let nearest = Infinity;
  buttons.forEach((button, index) => {
    const there = button.getBoundingClientRect();
    const down = (there.top - here.top) * way;
    if (down < here.height / 2) return;
    const distance = down * 10 + Math.abs(there.left - here.left);
    if (distance < nearest) [best, nearest] = [index, distance];
  });
  return best;
}

// Turn mouse, touch and keys on a stage into zoom, pan, cursor and selections.

import { change, holdView, toImage, zoomAround } from "./shared.js";

const CLICK = 5; // pixels that a pointer may move in a click
const STEPS = 32; // of the cursor, over the longer side

export function listenToStage(cell) {
  const { stage, viewer } = cell;
  const pointers = new Map();
  let drag = null;
  let pinch = null;
  let last = null; // where on the screen the mouse moved last
  let armed = false; // a page that scrolls below a resting mouse is not to zoom

  const fraction = ({ clientX, clientY }) => {
    const box = stage.getBoundingClientRect();
    return { x: (clientX - box.left) / box.width, y: (clientY - box.top) / box.height };
  };
  const imageAt = (event) => {
    const at = fraction(event);
    const found = toImage(viewer.group.state.view, at.x, at.y);
    const hold = (value) => Math.min(Math.max(value, 0), 1);
    return { x: hold(found.x), y: hold(found.y) };
  };

  stage.addEventListener("pointerdown", (event) => {
    if (event.target === cell.handle || event.button > 1) return;
    viewer.activate(cell);
    stage.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, event);
    if (pointers.size === 2) {
      viewer.selection.cancel();
      drag = null;
      pinch = { ...measurePinch(pointers), view: viewer.group.state.view };
      return;
    }
    const tool = event.button === 1 ? "move" : viewer.group.state.tool;
    drag = { tool, event, view: viewer.group.state.view, moved: false };
    if (tool !== "move") {
      event.preventDefault();
      stage.focus({ preventScroll: true });
      viewer.selection.start(tool, imageAt(event), event.altKey);
    }
  });

  stage.addEventListener("pointermove", (event) => {
    if (last && (event.screenX !== last.x || event.screenY !== last.y)) armed = true;
    last = { x: event.screenX, y: event.screenY };
    if (pointers.has(event.pointerId)) pointers.set(event.pointerId, event);
    if (pinch && pointers.size === 2) {
      const now = measurePinch(pointers);
      const from = fraction(pinch.middle);
      const to = fraction(now.middle);
      const zoomed = zoomAround(pinch.view, now.distance / pinch.distance, from.x, from.y);
      const shift = (axis) => zoomed[axis] - (to[axis] - from[axis]) / zoomed.zoom;
      change(viewer.group, { view: holdView({ zoom: zoomed.zoom, x: shift("x"), y: shift("y") }) });
      return;
    }
    if (drag) {
      const dx = event.clientX - drag.event.clientX;
      const dy = event.clientY - drag.event.clientY;
      drag.moved ||= Math.hypot(dx, dy) > CLICK;
      if (drag.tool === "move" && drag.moved) {
        const box = stage.getBoundingClientRect();
        const { zoom, x, y } = drag.view;
        const view = { zoom, x: x - dx / box.width / zoom, y: y - dy / box.height / zoom };
        change(viewer.group, { view: holdView(view) });
      } else if (drag.tool !== "move") {
        viewer.selection.extend(imageAt(event));
      }
    }
    change(viewer.group, { pointer: imageAt(event) });
    viewer.activate(cell);
  });

  const release = (event, cancelled) => {
    pointers.delete(event.pointerId);
    if (pinch) {
      if (pointers.size === 0) pinch = null;
      return;
    }
    if (!drag) return;
    const { tool, moved } = drag;
    drag = null;
    if (cancelled) return viewer.selection.cancel();
    if (tool !== "move") return viewer.selection.end();
    if (moved) return;
    // A tap reads a value; a click enlarges.
    if (event.pointerType === "touch") change(viewer.group, { pointer: imageAt(event) });
    const picked = event.button === 0 && viewer.pick(cell, imageAt(event));
    if (!picked && event.button === 0 && event.pointerType !== "touch") viewer.enlarge(cell);
  };
  stage.addEventListener("pointerup", (event) => release(event, false));
  stage.addEventListener("pointercancel", (event) => release(event, true));
  stage.addEventListener("pointerleave", (event) => {
    armed = false;
    last = null;
    if (event.pointerType === "mouse" && !drag) change(viewer.group, { pointer: null });
  });

  stage.addEventListener(
    "wheel",
    (event) => {
      const { view } = viewer.group.state;
      const outwards = event.deltaY > 0;
      if (!event.ctrlKey && (!armed || (outwards && view.zoom === 1))) return;
      event.preventDefault();
      const at = fraction(event);
      const lines = event.deltaMode === 1 ? 30 : 1;
      const factor = Math.exp(-Math.min(Math.max(event.deltaY * lines, -200), 200) * 0.003);
      change(viewer.group, { view: zoomAround(view, factor, at.x, at.y) });
    },
    { passive: false },
  );

  stage.addEventListener("focus", () => viewer.activate(cell));
  stage.addEventListener("keydown", (event) => pressKey(cell, event));

  listenToDivider(cell, fraction);
}

function listenToDivider(cell, fraction) {
  const { handle } = cell;
  handle.addEventListener("pointerdown", (event) => {
    event.stopPropagation();
    handle.setPointerCapture(event.pointerId);
  });
  handle.addEventListener("pointermove", (event) => {
    if (!handle.hasPointerCapture(event.pointerId)) return;
    event.stopPropagation();
    cell.moveDivider(fraction(event).x);
  });
  handle.addEventListener("keydown", (event) => {
    const { at } = cell.viewer.group.state.divider;
    const step = event.shiftKey ? 0.1 : 0.02;
    const to = { ArrowLeft: at - step, ArrowRight: at + step, Home: 0, End: 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    cell.moveDivider(to);
  });
}

function measurePinch(pointers) {
  const [first, second] = [...pointers.values()];
  return {
    distance: Math.hypot(first.clientX - second.clientX, first.clientY - second.clientY),
    middle: {
      clientX: (first.clientX + second.clientX) / 2,
      clientY: (first.clientY + second.clientY) / 2,
    },
  };
}

const ARROWS = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

function pressKey(cell, event) {
  const { viewer } = cell;
  const { group, selection } = viewer;
  const { view, tool, pointer } = group.state;
  if (event.target !== cell.stage || event.ctrlKey || event.metaKey) return;
  const arrow = ARROWS[event.key];
  if (arrow && event.altKey) {
    const [dx, dy] = arrow;
    change(group, {
      view: holdView({ ...view, x: view.x + (0.1 * dx) / view.zoom, y: view.y + (0.1 * dy) / view.zoom }),
    });
  } else if (arrow) {
    const [width, height] = viewer.data.grid;
    const step = event.shiftKey ? 1 : Math.max(1, Math.round(Math.max(width, height) / STEPS));
    // In the middle of a sample, so that a step of one sample is one everywhere.
    const from = pointer ? viewer.sampleAt(pointer) : { column: width >> 1, row: height >> 1 };
    const hold = (at, size) => (Math.min(Math.max(at, 0), size - 1) + 0.5) / size;
    const to = pointer
      ? { x: hold(from.column + arrow[0] * step, width), y: hold(from.row + arrow[1] * step, height) }
      : { x: hold(from.column, width), y: hold(from.row, height) };
    const half = 0.5 / view.zoom;
    const follow = (centre, at) => Math.min(Math.max(centre, at - half), at + half);
    change(group, {
      pointer: to,
      view: holdView({ ...view, x: follow(view.x, to.x), y: follow(view.y, to.y) }),
    });
    if (selection.active) selection.extend(to);
    viewer.announce();
  } else if (event.key === "Enter") {
    if (tool === "move" && !(pointer && viewer.pick(cell, pointer))) viewer.enlarge(cell);
    else if (tool === "move") viewer.live.textContent = "Explaining what is here.";
    else if (selection.active) selection.end();
    else selection.start(tool, pointer ?? { x: 0.5, y: 0.5 }, event.altKey);
  } else if (event.key === "Escape" && selection.active) {
    selection.cancel();
  } else {
    return;
  }
  event.preventDefault();
  event.stopPropagation();
}

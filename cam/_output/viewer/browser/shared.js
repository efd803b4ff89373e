// State that all viewers of a page share: zoom, pointer, divider and looks.

const START = () => ({
  view: { zoom: 1, x: 0.5, y: 0.5 },
  pointer: null,
  divider: { active: false, at: 0.5 },
  settings: null,
  tool: "move",
});

// The page may load this module twice, in a component and in a notebook's cell.
export function joinGroup(name) {
  window.camViewers ??= { groups: new Map() };
  const { groups } = window.camViewers;
  if (!groups.has(name)) groups.set(name, { state: START(), viewers: new Set(), given: new Map() });
  return groups.get(name);
}

export function change(group, patch) {
  Object.assign(group.state, patch);
  for (const viewer of group.viewers) viewer.schedule(patch);
}

// A new image is looked at as a whole.
export function resetView(group) {
  const { view, pointer } = START();
  change(group, { view, pointer });
}

// What the visitor chose stays for the next page; where one looked does not.
export function leaveGroup(group, viewer) {
  group.viewers.delete(viewer);
  if (group.viewers.size === 0) group.state = { ...START(), settings: group.state.settings };
}

// Keep the image over the whole stage.
export function holdView({ zoom, x, y }) {
  const held = Math.min(Math.max(zoom, 1), 40);
  const half = 0.5 / held;
  const hold = (at) => Math.min(Math.max(at, half), 1 - half);
  return { zoom: held, x: hold(x), y: hold(y) };
}

// Zoom so that what lies at a point of the stage stays there; all in fractions.
export function zoomAround(view, factor, stageX, stageY) {
  const at = toImage(view, stageX, stageY);
  const { zoom } = holdView({ ...view, zoom: view.zoom * factor });
  return holdView({ zoom, x: at.x - (stageX - 0.5) / zoom, y: at.y - (stageY - 0.5) / zoom });
}

export function toImage(view, stageX, stageY) {
  return { x: view.x + (stageX - 0.5) / view.zoom, y: view.y + (stageY - 0.5) / view.zoom };
}

export function toStage(view, x, y) {
  return { x: 0.5 + (x - view.x) * view.zoom, y: 0.5 + (y - view.y) * view.zoom };
}

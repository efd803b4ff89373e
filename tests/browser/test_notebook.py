"""A notebook's cell in a real browser, without a network."""

import pytest
from playwright.sync_api import expect

import cam
from tests.support.networks import Pooled, pictures

NOTEBOOK = """<body style="margin:0;background:{paper}"><div id="before">In [1]: maps</div>
<div class="output">{cell}</div><div id="after">In [2]:</div></body>"""


@pytest.mark.parametrize(("paper", "scheme"), [("#111", "light"), ("#fff", "dark")])
def test_a_cell_shows_the_viewer(page, paper, scheme):
    """The notebook's theme counts, and not the system's."""
    maps = cam.attribute(Pooled(), pictures(), ["gradcam", "saliency"])
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.emulate_media(color_scheme=scheme)
    page.context.set_offline(True)
    page.set_content(NOTEBOOK.format(paper=paper, cell=maps._repr_html_()))
    frame = page.frame_locator("iframe")
    expect(frame.locator(".cam-viewer[data-ready]")).to_have_count(len(pictures()))
    ground = frame.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
    assert ground == page.evaluate("getComputedStyle(document.body).backgroundColor")
    ink = frame.locator(".heading").first.evaluate("node => getComputedStyle(node).color")
    light = sum(map(int, ink.removeprefix("rgb(").removesuffix(")").split(","))) > 3 * 128
    assert light == (paper == "#111")
    # All of it without a scroll bar within the page's.
    fits = "() => document.documentElement.scrollHeight <= innerHeight"
    page.frames[1].wait_for_function(fits)
    assert not [request for request in requests if not request.startswith("about:")]


def test_what_a_visitor_does_in_a_cell_is_drawn(page):
    """The value below the cursor is the attribution's; a threshold of 100 % leaves the image."""
    batch = pictures()[:1]
    maps = cam.attribute(Pooled(), batch, "saliency")
    page.set_content(NOTEBOOK.format(paper="#fff", cell=maps["saliency"]._repr_html_()))
    frame = page.frame_locator("iframe")
    stage = frame.get_by_role("application", name="Saliency map")
    box = stage.bounding_box()
    height, width = maps["saliency"].heatmap.shape[1:]
    row, column = divmod(int(maps["saliency"].heatmap[0].argmax()), width)
    page.mouse.move(
        box["x"] + box["width"] * (column + 0.5) / width,
        box["y"] + box["height"] * (row + 0.5) / height,
    )
    expect(frame.locator(".reading").last).to_contain_text("1.000")
    slider = frame.get_by_role("slider", name="Opacity")
    slider.focus()
    page.keyboard.press("Home")
    alike = """() => {
      const [image, map] = window.camViewer.cells.map(({ top }) => top.toDataURL());
      return image === map;
    }"""
    page.frames[1].wait_for_function(alike)


def test_a_widget_gives_back_what_is_selected(page):
    """As a notebook's front end does: its model, its element, its script."""
    viewer = cam.widget(cam.attribute(Pooled(), pictures()[:1], ["gradcam", "saliency"]))
    page.set_content(f"<style>{viewer._css}</style><div id='cell'></div>")
    page.evaluate(
        """async ({ script, data }) => {
          const state = { data, region: {}, looks: {} }, called = {};
          window.saved = [];
          const model = {
            get: (name) => state[name],
            set: (name, value) => (state[name] = value),
            save_changes: () => window.saved.push(JSON.parse(JSON.stringify(state.region))),
            on: (name, call) => (called[name] = call),
            off: (name) => delete called[name],
          };
          const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
          const { default: widget } = await import(url);
          window.leave = widget.render({ model, el: document.getElementById("cell") });
          window.called = called;
        }""",
        {"script": viewer._esm, "data": viewer.data},
    )
    expect(page.locator(".cam-viewer[data-ready=true]")).to_be_visible()
    page.get_by_role("button", name="Box").first.click()
    stage = page.get_by_role("application", name="Grad-CAM").bounding_box()
    left, top, across, down = (stage[name] for name in ("x", "y", "width", "height"))
    page.mouse.move(left + across / 4, top + down / 4)
    page.mouse.down()
    page.mouse.move(left + across / 2, top + down * 3 / 4, steps=4)
    page.mouse.up()
    page.wait_for_function("window.saved.at(-1)?.box")
    viewer.region = page.evaluate("window.saved.at(-1)")
    width, height = viewer.data["grid"]
    box = viewer.selection.box
    expected = (width / 4, height / 4, width / 2, height * 3 / 4)
    assert max(abs(a - b) for a, b in zip(box, expected, strict=True)) <= 1.5
    page.evaluate("window.leave()")
    page.wait_for_function(
        "!document.querySelector('.cam-viewer') && !('change:data' in window.called)"
    )

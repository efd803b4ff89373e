"""A view as a file."""

import re

import pytest
from streamlit.testing.v1 import AppTest

from cam.pages.ui.widgets import view_record
from tests.support.viewer_maps import make_image, make_maps


def draw_page() -> None:
    import pandas
    import streamlit as st

    from cam.pages.ui.widgets import view_record
    from cam.pages.ui.widgets.links import choose
    from cam.pages.ui.widgets.prose import write_heading, write_small

    with view_record.record_view() as record:
        view_record.header("Widgets only")
        choose("Metric", {"deletion": "Deletion"}, "metric")
        view_record.header("Figures")
        view_record.markdown("**Good**: <b>")
        write_small("of `64` images")
        with view_record.title_part("Nothing"):
            pass
        with view_record.pause_record():
            view_record.info("not in the file")
        write_heading("Table")
        view_record.dataframe(pandas.DataFrame({"p": [0.123456, None], "name": ["<i>", "b"]}))
    write_small("after it")
    st.session_state["page"] = record.write("Run & view")


def test_what_a_page_draws_is_in_the_file_and_widgets_are_not():
    app = AppTest.from_function(draw_page, default_timeout=60).run()
    assert not app.exception
    page = app.session_state["page"]
    body = page.split("<main>")[1].split("</main>")[0]
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)).strip()
    assert words == (
        "Run &amp; view Metric: Deletion Figures Good : &lt;b&gt; of 64 images Table Table 1 p "
        "name 0.1235 &lt;i&gt; – b"
    )
    # The page itself is complete.
    assert [header.value for header in app.header] == ["Widgets only", "Figures"]
    assert app.info[0].value == "not in the file"


def test_outside_of_a_record_nothing_is_kept():
    view_record.record_html("<p>lost</p>")
    with view_record.record_view() as record:
        view_record.record_html("<p>here</p>")
    view_record.record_html("<p>lost</p>")
    assert record.pieces == ["<p>here</p>"]


def test_images_without_room_are_left_out_and_counted():
    image = '<img src="data:image/png;base64,{}" alt="a">'
    body = "".join(f"<p>{number}{image.format('A' * 1000)}</p>" for number in range(10))
    limited = view_record.limit_images(body, 5_000)
    assert len(limited) <= 5_000
    assert limited.count("<img") == 4 and limited.count("<p>") == 10
    assert "6 images are left out" in limited
    assert view_record.limit_images(body, 50_000) == body


@pytest.mark.parametrize("count", [1, 2])
def test_viewers_are_in_it_with_their_data_once(count):
    from cam._output.viewer.payload import pack

    with view_record.record_view() as record:
        for number in range(count):
            view_record.record_viewer(pack(make_image(20), make_maps(20), f"</script>{number}"))
    page = record.write("Maps")
    assert page.count("data-viewer></div>") == count
    assert page.count("</script>") == 2
    assert len(page.encode()) < 1_000_000
    assert page.count('"colormaps"') == 1

"""Test that links, the menu, Back and Forward carry every choice."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import _Servers
from tests.support.browser_steps import read_address, wait_for, wait_until_drawn

PAGES = ("Explore", "Anatomy", "Compare", "Datasets", "Performance")
# A network built by hand, which needs no download; its class and layer are no other model's.
CHOICES = {
    "image": ["coffee"],
    "model": ["known/patch"],
    "target": ["vertical stripes"],
    "layer": ["templates"],
}
BOXES = {"model": "Model", "target": "Class to explain", "layer": "Layer for Grad-CAM"}
# What a page has controls for; the other choices are only passed on.
CONTROLS = {
    "Explore": ("image", "model", "target", "layer"),
    "Anatomy": ("image", "model", "target", "layer"),
    "Compare": ("image", "model", "target", "layer"),
    # Its form, which has some, is opened by a button.
    "Datasets": (),
    "Performance": ("image", "model"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Start a server without runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAM_RUNS", str(tmp_path_factory.mktemp("runs")))
        patch.setenv("CAM_DATA_ROOTS", "")
        with _Servers(tmp_path_factory.mktemp("server")) as start:
            yield start()


def find_box(page: Page, name: str):
    return page.get_by_role("combobox", name=BOXES[name], exact=True)


def click_menu(page: Page, name: str) -> None:
    page.get_by_test_id("stMain").get_by_role("link", name=name).click()


def expect_page(page: Page, name: str) -> None:
    """Expect a page with every choice in its address, and in each control that it has."""
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
    wait_for(lambda: read_address(page), CHOICES)
    # The first page is there twice.
    assert urlsplit(page.url).path in (f"/{name.lower()}", "/" if name == "Explore" else None)
    for choice in CONTROLS[name]:
        if choice == "image":
            expect(page.get_by_role("radio", name="Coffee")).to_be_checked()
        else:
            expect(find_box(page, choice)).to_have_value(CHOICES[choice][0])
    expect(page.get_by_test_id("stException")).to_have_count(0)
    expect(page.get_by_text("The link asks for")).to_have_count(0)


@pytest.mark.parametrize("first", PAGES)
def test_a_cold_link_and_the_menu_carry_every_choice(page, server, first):
    """Five pages and from each the four others: 20 of 20, and Back from each of them."""
    page.goto(f"{server}/{first.lower()}?{urlencode(CHOICES, doseq=True)}")
    expect_page(page, first)
    for other in PAGES:
        if other != first:
            click_menu(page, other)
            expect_page(page, other)
            page.go_back()
            expect_page(page, first)


def read_state(page: Page) -> dict[str, Any]:
    """Read what Explore shows as chosen."""
    boxes = ("target", "layer")
    sample = page.locator(".st-key-sample").get_by_role("radio", checked=True)
    pressed = page.locator(".st-key-quick").get_by_role("button", pressed=True)
    return {
        "image": sample.all_inner_texts(),
        "methods": pressed.all_inner_texts(),
        **{name: page.get_by_role("combobox", name=BOXES[name]).input_value() for name in boxes},
        "code": page.get_by_test_id("stCode").count() > 0,
    }


def pick(page: Page, name: str, option: str) -> None:
    """Pick an option of a select box by typing its name, as a person does."""
    box = page.get_by_role("combobox", name=BOXES[name])
    box.click()
    box.fill(option)
    page.get_by_role("option", name=option, exact=True).click()


STEPS: list[tuple[Callable[[Page], None], dict[str, Any], dict[str, list[str]]]] = [
    (
        lambda page: page.get_by_role("radio", name="Rocket").click(),
        {"image": ["Rocket"]},
        {"image": ["rocket"]},
    ),
    (
        lambda page: page.get_by_role("button", name="LayerCAM", exact=True).click(),
        {"methods": ["Grad-CAM", "Saliency map", "LayerCAM"]},
        {"methods": ["gradcam", "saliency", "layercam"]},
    ),
    (
        lambda page: pick(page, "target", "projectile"),
        {"target": "projectile"},
        {"target": ["projectile"]},
    ),
    (
        lambda page: pick(page, "layer", "blocks.4"),
        {"layer": "blocks.4"},
        {"layer": ["blocks.4"]},
    ),
    (
        lambda page: page.get_by_text("Copy as Python").click(),
        {"code": True},
        {"code": ["true"]},
    ),
]


def test_five_choices_are_five_entries_of_the_history(page, server):
    """Five Backs give the five earlier states, a reload keeps one, and Forward goes all the way."""
    page.goto(f"{server}/explore")
    expect(page.get_by_role("radio", name="Cat")).to_be_checked()
    expect(page.get_by_role("button", name="LayerCAM", exact=True)).to_be_visible()
    state = {
        "image": ["Cat"],
        "methods": ["Grad-CAM", "Saliency map"],
        "target": "",
        "layer": "",
        "code": False,
    }
    wait_for(lambda: read_state(page), state)
    states, addresses = [state], [read_address(page)]
    assert addresses == [{}]
    entries = page.evaluate("history.length")
    for number, (choose, change, written) in enumerate(STEPS, start=1):
        # What is clicked on must not move away meanwhile.
        wait_until_drawn(page)
        choose(page)
        states.append(states[-1] | change)
        addresses.append(addresses[-1] | written)
        expect_state(page, states[-1], addresses[-1])
        wait_for(lambda: page.evaluate("history.length"), entries + number)
    for number in reversed(range(len(STEPS))):
        page.go_back()
        expect_state(page, states[number], addresses[number])
        if number == 3:
            page.reload()
            expect_state(page, states[number], addresses[number])
    for number in range(1, len(STEPS) + 1):
        page.go_forward()
        expect_state(page, states[number], addresses[number])
    assert page.evaluate("history.length") == entries + len(STEPS)


def expect_state(page: Page, state: dict[str, Any], address: dict[str, list[str]]) -> None:
    wait_for(lambda: read_address(page), address)
    expect(page.get_by_role("combobox", name=BOXES["layer"])).to_be_visible()
    wait_for(lambda: read_state(page), state)
    # And it stays so: what comes with the end of the run does not undo it.
    wait_until_drawn(page)
    assert (read_address(page), read_state(page)) == (address, state)


@pytest.mark.parametrize("name", PAGES)
def test_no_page_asks_another_host(page, server, name):
    """Whatever goes elsewhere is stopped and counted, the page's icon and its socket too."""
    host, elsewhere = urlsplit(server).netloc, []

    def stop(route) -> None:
        elsewhere.append(route.request.url)
        route.abort()

    page.context.route(lambda url: urlsplit(url).netloc not in (host, ""), stop)
    page.on("websocket", lambda socket: sockets.append(urlsplit(socket.url).netloc))
    sockets: list[str] = []
    page.goto(f"{server}/{name.lower()}")
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
    expect(page).to_have_title(re.compile(f"^{name} "))
    wait_until_drawn(page)
    page.wait_for_load_state("networkidle")
    assert elsewhere == [] and set(sockets) == {host}
    # A browser without a window fetches no icon, so the page is asked where it is.
    icons = page.locator("link[rel~=icon]").evaluate_all("links => links.map(link => link.href)")
    assert icons
    for icon in icons:
        # In the page itself, or on the same server.
        assert icon.startswith("data:image/") or urlsplit(icon).netloc == host, icon

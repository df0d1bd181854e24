"""What the tests of pages that a server gives have in common."""

import re

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

SECONDS = 60_000
expect.set_options(timeout=SECONDS)
BENIGN = ("favicon", "Unsatisfied version", "No satisfying version")
"""What the servers' own pages say on their console, which is no concern of the widgets."""


def opened(browser, url, width):
    """Yield a page; keep a screenshot of it if a test failed, and check what it asked for and complained about."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.set_default_timeout(SECONDS)
    trouble, asked = [], []
    page.on("console", lambda message: trouble.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    yield page
    assert [text for text in trouble if not any(part in text for part in BENIGN)] == []
    assert [a for a in asked if not a.startswith((url.split("?")[0][:21], "data:", "blob:"))] == []
    page.close()


def quiet(page):
    """Wait until no widget is at work."""
    expect(page.locator(".fx .work:not(.idle)")).to_have_count(0)


def assert_accessible(page, where):
    """Assert that axe, the accessibility checker, finds nothing wrong: contrast of 4.5:1, names, roles, keyboard."""
    found = Axe().run(page, context=where, options={"resultTypes": ["violations"]}).response["violations"]
    assert [(rule["id"], [node["html"][:120] for node in rule["nodes"][:3]]) for rule in found] == []


def part(page, title):
    """Return the widget with this heading, the first where there are several."""
    return page.locator(".fx", has=page.get_by_role("heading", name=re.compile(f"^{title}"), level=2)).first

"""A browser on Airflow's own UI, and a visitor whose clicks are counted."""

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Locator, Page, sync_playwright

if TYPE_CHECKING:
    from fastapi import FastAPI

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
#: Chromium asks its maker for nothing.
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDE, NARROW = (1440, 900), (390, 844)
PATIENCE_MS = 60_000


@contextmanager
def opened_browser() -> Iterator[Browser]:
    """Start the system's Chromium; without one the test fails with what to install."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.fail(
            "no Chromium on PATH: install it (Debian: apt-get install chromium)", pytrace=False
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(QUIET))
        yield browser
        browser.close()


@contextmanager
def served(app: "FastAPI") -> Iterator[str]:
    """Serve an application on a free port of the loopback address.

    :return: its URL, without a slash at its end.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.05)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


class Visitor:
    """A person at Airflow's first page, whose clicks are counted."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url, self.clicks = page, url, 0
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: self.errors.append(f"a dialog: {dialog.message}"))

    def click(self, found: Locator) -> None:
        """Click once on the first that is found."""
        found.first.click()
        self.clicks += 1

    def link(self, name: str) -> None:
        """Click on the link with this name."""
        self.click(self.page.get_by_role("link", name=name, exact=True))

    def go(self, path: str, text: str) -> None:
        """Open an address, and wait until a text is there.

        Airflow's UI is loaded once; after that its router opens the pages.
        """
        if self.page.url.startswith(self.url):
            self.move(path)
        else:
            self.page.goto(self.url + path)
        self.see(text)

    def move(self, path: str) -> None:
        """Let the router of Airflow's UI open an address."""
        self.page.evaluate(
            "(path) => { history.pushState({}, '', path);"
            " dispatchEvent(new PopStateEvent('popstate', { state: {} })); }",
            path,
        )

    def see(self, text: str) -> Locator:
        """Wait for a text."""
        found = self.page.locator(".ns").get_by_text(text).first
        found.wait_for()
        return found

    def fact(self, name: str) -> str:
        """Read a fact: the value below its name."""
        term = self.page.locator(".ns-facts > div").filter(
            has=self.page.locator("dt").get_by_text(name, exact=True)
        )
        return term.first.locator("dd").inner_text()

    def row(self, table: str, words: str) -> str:
        """Read the row of a table that has these words."""
        return (
            self.page.get_by_role("table", name=table)
            .get_by_role("row")
            .filter(has_text=words)
            .first.inner_text()
        )


def new_context(
    browser: Browser, url: str, token: str, *, theme: str = "light", size: tuple[int, int] = WIDE
) -> BrowserContext:
    """Open a window of a person who has logged in."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, timezone_id="Europe/Berlin"
    )
    context.set_default_timeout(PATIENCE_MS)
    context.add_cookies([{"name": "_token", "value": token, "url": url}])
    context.add_init_script(
        f"try {{ localStorage.theme = '{theme}' }} catch {{}}"  # a sandboxed report has none
    )
    return context


def assert_it_moves(film: Locator, timeout_s: float = 20) -> None:
    """Wait until a film shows two different pictures."""
    film.scroll_into_view_if_needed()
    first, end = film.screenshot(), time.monotonic() + timeout_s
    while film.screenshot() == first:
        assert time.monotonic() < end, "the film stands still"

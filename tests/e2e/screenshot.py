"""A picture of a running page, for a README: `screenshot.py URL OUT.png`.

Run it with the environment of services/curation, which has Playwright; the browser is Debian's `chromium`.
"""

import argparse
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip


def picture(page: Page, url: str, out: Path, *, play: bool, details: bool) -> None:
    """Wait until the waveforms in sight are drawn, and save what a person sees."""
    page.goto(url, wait_until="networkidle")
    if page.locator(".wave").count():
        page.locator(".wave[data-drawn]").first.wait_for(timeout=20_000)
    if details:
        page.keyboard.press("d")
        page.locator(".closeup[data-drawn]").wait_for(timeout=20_000)
        page.locator("[data-spectrogram='drawn']").wait_for(timeout=20_000)
    if play:
        page.keyboard.press("Space")
        page.locator("#clock", has_text="0:02 /").wait_for(timeout=20_000)
        page.keyboard.press("Space")
    page.wait_for_timeout(600)
    page.screenshot(path=out)


def main() -> None:
    """Exit code 0 when the picture was saved."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=860)
    parser.add_argument("--play", action="store_true", help="play the first clip for two seconds before")
    parser.add_argument("--details", action="store_true", help="open the details of the first clip of curation")
    parser.add_argument("--dark", action="store_true")
    given = parser.parse_args()
    browser_path = shutil.which("chromium")
    if browser_path is None:
        sys.exit("chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=list(FLAGS))
        page = browser.new_page(
            viewport={"width": given.width, "height": given.height}, color_scheme="dark" if given.dark else "light"
        )
        picture(page, given.url, given.out, play=given.play, details=given.details)
        browser.close()


if __name__ == "__main__":
    main()

"""Find a Chromium for the browser tests, or install one: Debian's package where root may, Playwright's own elsewhere.

Prints what it found. Exits 0 even when there is none, unless CI is set: the tests themselves then skip loudly.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str | None:
    """Path of an installed browser, the one in TACIT_CHROMIUM first."""
    wanted = os.environ.get("TACIT_CHROMIUM")
    if wanted:
        return wanted if Path(wanted).exists() else None
    return next((path for name in NAMES if (path := shutil.which(name))), None) or playwright_browser()


def playwright_browser() -> str | None:
    """Path of Playwright's own Chromium when it has been downloaded."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def install() -> None:
    """Try Debian's package, then Playwright's download; failures are shown, not raised."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        done = subprocess.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"],
            check=False,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdout=subprocess.DEVNULL,
        )
        if done.returncode == 0 and find():
            return
    subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)


def main() -> int:
    """Find or install, and say so."""
    path = find()
    if path is None:
        print("No Chromium found; trying to install one for the browser tests.")
        install()
        path = find()
    if path is None:
        print(
            "NO CHROMIUM: the browser tests will be SKIPPED. Install Debian's `chromium`, or set TACIT_CHROMIUM=/path/to/chrome."
        )
        return 1 if os.environ.get("CI") else 0
    print(f"Browser for the tests: {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

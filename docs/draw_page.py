"""python docs/draw_page.py ckpt=checkpoints/omni_sft: screenshots of the page at three widths, docs/page-360.png and so on.

Starts serve.py on the export, and talks to it in Chromium as a user would: a picture of the gallery, a spoken answer. Needs
chromium, chromium-driver and selenium (pip install -e '.[clients]')."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import httpx
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

ROOT = Path(__file__).parents[1]
SIZES = {360: 720, 768: 860, 1280: 800}  # width: height
THEMES = {360: "dark", 768: "light", 1280: "light"}
LARGEST = 150_000  # bytes of a file
PICTURE, QUESTION = 0, "describe the picture"  # a button of the gallery, and what is asked next


def main(arguments: list[str]) -> None:
    """Draw all files."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, ROOT / "serve.py", *arguments, f"port={port}"], cwd=ROOT)
    browser = None
    try:
        url = f"http://127.0.0.1:{port}"
        _until(lambda: server.poll() is not None or _answers(url), seconds=300)
        if server.poll() is not None:
            sys.exit("the server did not start")
        browser = _browser()
        for width, height in SIZES.items():
            _save(_conversation(browser, url, width, height), ROOT / "docs" / f"page-{width}.png")
    finally:
        if browser is not None:
            browser.quit()
        server.terminate()
        server.wait(60)


def _browser() -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if binary is None:
        sys.exit("needs chromium")
    options.binary_location = binary
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))


def _conversation(browser: webdriver.Chrome, url: str, width: int, height: int) -> Image.Image:
    """Two questions and their answers, the second spoken."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(url)
    _until(lambda: browser.execute_script("return document.body.dataset.ready"))
    browser.execute_script("document.documentElement.dataset.theme = arguments[0]", THEMES[width])
    browser.find_elements(By.CSS_SELECTOR, "#gallery button")[PICTURE].click()
    _until(lambda: _answered(browser, 1))
    browser.execute_script("document.getElementById('speak').checked = true")
    browser.find_element(By.ID, "question").send_keys(QUESTION, Keys.ENTER)
    _until(lambda: _answered(browser, 2))
    browser.execute_script("document.activeElement.blur()")
    time.sleep(0.5)
    return Image.open(BytesIO(browser.get_screenshot_as_png())).convert("RGB")


def _answered(browser: webdriver.Chrome, number: int) -> bool:
    return len(browser.find_elements(By.CSS_SELECTOR, ".assistant[aria-busy=false]")) == number


def _save(picture: Image.Image, path: Path) -> None:
    picture.quantize(128).save(path, optimize=True)
    if path.stat().st_size > LARGEST:
        sys.exit(f"{path}: {path.stat().st_size} bytes; at most {LARGEST} belong into the repository")
    print(path.relative_to(ROOT))


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False


def _until(condition: Callable[[], object], *, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            sys.exit("the page did not get there")
        time.sleep(0.1)


if __name__ == "__main__":
    main(sys.argv[1:])

"""Pages of reports in headless Chromium: no message on the console, nothing loaded, buttons and boxes work. Needs Chromium with
its driver, and selenium."""

import shutil

import pytest

from muomni.report.__main__ import main
from tests.unit.report.test_comparison import make_job

webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium: these tests drive a browser")
from selenium.webdriver.common.by import By  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None or shutil.which("chromedriver") is None, reason="needs chromium and chromium-driver"
    ),
]


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1000"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "thinker" / "sweep"
    jobs = [(lr, seed) for lr in (0.1, 0.03, 0.01) for seed in (0, 1)]
    for number, (lr, seed) in enumerate(jobs):
        make_job(folder / str(number), lr=lr, seed=seed, loss=1 + lr + seed / 10)
    main(["sweep", str(folder)])
    main(["compare", str(folder), f"out={folder / 'compare'}"])
    return folder


def open_page(browser, file):
    """Open a file; return the addresses that it loads, itself left out, and what is on the console."""
    browser.get_log("performance")
    browser.get(file.as_uri())
    loaded = [
        entry["message"] for entry in browser.get_log("performance") if "Network.requestWillBeSent" in entry["message"]
    ]
    others = [message for message in loaded if file.name not in message and '"url":"data:' not in message]
    return others, browser.get_log("browser")


@pytest.mark.parametrize("page", ["sweep.html", "compare/compare.html"])
def test_a_page_loads_nothing_and_says_nothing_on_the_console(browser, sweep, page):
    assert open_page(browser, sweep / page) == ([], [])
    width = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1]


def test_axes_are_chosen_and_runs_hidden(browser, sweep):
    open_page(browser, sweep / "compare" / "compare.html")

    def shown():
        return {
            each.get_attribute("data-axis")
            for each in browser.find_elements(By.CSS_SELECTOR, "figure")
            if each.is_displayed()
        }

    assert shown() == {"steps"}
    for axis in ("tokens", "hours"):
        browser.find_element(By.CSS_SELECTOR, f'[data-choose="{axis}"]').click()
        assert shown() == {axis}
    lines = browser.find_elements(By.CSS_SELECTOR, '[data-axis="hours"] .run.r1')
    assert lines and all(line.is_displayed() for line in lines)
    browser.find_element(By.CSS_SELECTOR, '[data-run="1"]').click()
    assert not any(line.is_displayed() for line in lines)
    assert browser.get_log("browser") == []

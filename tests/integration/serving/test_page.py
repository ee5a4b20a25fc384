"""The page in headless Chromium, with a fake microphone and camera: asked by text, picture and voice; its spoken answer is the
API's. Needs Chromium with its driver, selenium, and for accessibility MUOMNI_NODE_MODULES=FOLDER with axe-core."""

import base64
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium: these tests drive a browser")
from selenium.webdriver.common.by import By  # noqa: E402

WIDTHS = (360, 768, 1280)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None or shutil.which("chromedriver") is None, reason="needs chromium and chromium-driver"
    ),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    path = tmp_path_factory.mktemp("fake") / "voice.wav"
    generator = np.random.default_rng(0)
    voice = np.concatenate([np.zeros(24_000), generator.normal(0, 0.2, 24_000), np.zeros(48_000)])
    soundfile.write(path, voice.clip(-1, 1), 48_000, subtype="PCM_16")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={path}",
        "--autoplay-policy=no-user-gesture-required", "--window-size=1280,900",
    ):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "the page did not get there"
        time.sleep(0.1)
    return value


@pytest.fixture
def page(browser, live):
    browser.get_log("browser")
    browser.get(live.url)
    until(lambda: browser.execute_script("return document.body.dataset.ready"))
    yield browser
    severe = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert severe == []


def messages(page, role):
    return page.find_elements(By.CSS_SELECTOR, f".message.{role}")


def answer(page, number=1):
    """Text of the newest of so many answers, when it is complete."""

    def complete():
        found = messages(page, "assistant")
        return len(found) >= number and found[-1].get_attribute("aria-busy") == "false" and found[-1]

    return until(complete).find_element(By.CSS_SELECTOR, ".text").text


def samples(page, element):
    """The samples of a message's player."""
    source = element.find_element(By.CSS_SELECTOR, "audio").get_attribute("src")
    script = """
        const [source, done] = arguments;
        fetch(source).then((answer) => answer.arrayBuffer()).then((buffer) => {
          let text = "";
          for (const byte of new Uint8Array(buffer)) text += String.fromCharCode(byte);
          done(btoa(text));
        });
    """
    return np.frombuffer(base64.b64decode(page.execute_async_script(script, source))[44:], dtype="<i2")


def test_asked_by_text(page, engine):
    page.find_element(By.ID, "question").send_keys("what colour\n")
    expected = engine.generate("what colour", max_new_tokens=200)
    assert answer(page).split() == expected.split()
    assert "tokens read" in page.find_element(By.ID, "status").text


def test_asked_by_a_picture_of_the_gallery(page):
    page.find_elements(By.CSS_SELECTOR, "#gallery button")[0].click()
    answer(page)
    assert messages(page, "user")[0].find_element(By.CSS_SELECTOR, ".media img").is_displayed()


def test_asked_by_a_file(page, picture):
    page.find_element(By.ID, "pick").send_keys(str(picture))
    until(lambda: page.find_elements(By.CSS_SELECTOR, "#attachments img"))
    page.find_element(By.ID, "send").click()
    answer(page)


def test_asked_by_the_camera(page):
    page.find_element(By.ID, "camera").click()
    until(lambda: page.execute_script("return document.getElementById('camera-view').videoWidth"))
    page.find_element(By.ID, "camera-take").click()
    until(lambda: page.find_elements(By.CSS_SELECTOR, "#attachments img"))
    page.find_element(By.ID, "send").click()
    answer(page)


def test_asked_by_voice(page):
    page.find_element(By.ID, "microphone").click()
    until(lambda: int(page.find_element(By.ID, "level").get_attribute("aria-valuenow")) > 50)
    time.sleep(1)
    page.find_element(By.ID, "microphone").click()
    answer(page)
    user = messages(page, "user")[0]
    heard = samples(page, user)
    assert len(heard) > 8000
    assert np.abs(heard).max() > 1000
    assert (
        user.find_element(By.CSS_SELECTOR, "canvas")
        .get_attribute("aria-label")
        .startswith("spectrogram of your recording")
    )


def test_a_spoken_answer_is_the_apis(page, live):
    page.execute_script("document.getElementById('speak').checked = true")
    page.find_element(By.ID, "question").send_keys("tell me 1 2 3\n")
    text = answer(page)
    if not messages(page, "assistant")[-1].find_elements(By.CSS_SELECTOR, "audio"):
        pytest.skip(f"this random model said nothing that can be spoken: {text!r}")
    body = {
        "model": "tiny", "messages": [{"role": "user", "content": [{"type": "text", "text": "tell me 1 2 3"}]}],
        "modalities": ["text", "audio"], "audio": {"voice": "0", "format": "pcm16"}, "temperature": 0,
        "max_completion_tokens": 200,
    }  # fmt: skip
    spoken = live.http.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["audio"]
    expected = np.frombuffer(base64.b64decode(spoken["data"]), dtype="<i2")
    assert np.array_equal(samples(page, messages(page, "assistant")[-1]), expected)


def test_hands_free(page):
    page.find_element(By.ID, "hands-free").click()
    until(lambda: messages(page, "assistant"), seconds=60)
    page.find_element(By.ID, "hands-free").click()
    assert page.find_element(By.ID, "hands-free").get_attribute("aria-pressed") == "false"


def test_an_error_is_shown_in_the_servers_words(page):
    page.execute_script("document.getElementById('system').value = 'what '.repeat(500)")
    page.find_element(By.ID, "question").send_keys("tell me\n")
    shown = until(lambda: messages(page, "error"))[0].text
    page.get_log("browser")  # the browser logs the 400 as well
    assert "Too many tokens" in shown


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_no_violation_of_accessibility(page, width, theme):
    modules = os.environ.get("MUOMNI_NODE_MODULES")
    if not modules:
        pytest.skip("needs MUOMNI_NODE_MODULES=FOLDER with: npm install axe-core")
    page.set_window_size(width, 900)
    page.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
    page.find_elements(By.CSS_SELECTOR, "#gallery button")[0].click()
    answer(page)
    page.execute_script((Path(modules) / "axe-core" / "axe.min.js").read_text())
    for dialog in (None, "settings"):
        if dialog:
            page.execute_script("document.getElementById(arguments[0]).showModal()", dialog)
        found = page.execute_async_script("axe.run().then(arguments[0])")
        assert [(each["id"], [node["html"][:80] for node in each["nodes"]]) for each in found["violations"]] == []
    page.execute_script("document.getElementById('settings').close()")
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    page.set_window_size(1280, 900)


def test_by_keyboard_alone(page):
    order = []
    for _ in range(40):
        page.switch_to.active_element.send_keys("\ue004")
        order.append(page.switch_to.active_element.get_attribute("id") or page.switch_to.active_element.tag_name)
    for name in (
        "new",
        "theme",
        "open-settings",
        "question",
        "send",
        "pick",
        "camera",
        "microphone",
        "hands-free",
        "speak",
    ):
        assert name in order, name

"""The page in headless Chromium, with a fake microphone and camera: asked by text, picture and voice; its spoken answer is the
API's. Needs Chromium with its driver, selenium, and for accessibility MUOMNI_NODE_MODULES=FOLDER with axe-core."""

import base64
import itertools
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from muomni.inference.errors import QueueFull
from muomni.serving.routes import chat

webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium: these tests drive a browser")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None or shutil.which("chromedriver") is None, reason="needs chromium and chromium-driver"
    ),
]

# Notes what the page plays, and the files that it makes: neither can be read from outside.
RECORDER = """
    window.played = [];
    const { start, stop } = AudioBufferSourceNode.prototype;
    AudioBufferSourceNode.prototype.start = function (when) {
      played.push({ samples: this.buffer.getChannelData(0), end: when + this.buffer.duration, node: this });
      return start.call(this, when);
    };
    AudioBufferSourceNode.prototype.stop = function () {
      played.find(({ node }) => node === this).end = 0;
      return stop.call(this);
    };
    window.sounding = () => played.filter(({ end, node }) => end > node.context.currentTime).length;
    window.files = {};
    const create = URL.createObjectURL;
    URL.createObjectURL = (blob) => {
      const address = create.call(URL, blob);
      files[address] = blob;
      return address;
    };
"""


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
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": RECORDER})
    yield driver
    driver.quit()


def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "the page did not get there"
        time.sleep(0.05)
    return value


def open_page(browser, server):
    browser.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": server.url, "storageTypes": "all"})
    browser.get_log("browser")
    browser.get(server.url)
    until(lambda: browser.execute_script("return document.body.dataset.ready"))
    return browser


@pytest.fixture
def page(browser, live):
    yield open_page(browser, live)
    severe = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert [line for line in severe if "/v1/" not in line] == []  # of the content policy, too


def element(page, name):
    return page.find_element(By.ID, name)


def press(page, *keys):
    webdriver.ActionChains(page).send_keys(*keys).perform()


def messages(page, role):
    return page.find_elements(By.CSS_SELECTOR, f".message.{role}")


def answer(page, number=1):
    """The newest of so many answers, when it is complete."""

    def complete():
        found = messages(page, "assistant")
        return len(found) >= number and found[-1].get_attribute("aria-busy") == "false" and found[-1]

    return until(complete)


def text_of(message):
    return message.find_element(By.CSS_SELECTOR, ".text").text


def ask(page, text, number=1):
    element(page, "question").send_keys(text, Keys.ENTER)
    return answer(page, number)


def samples(page, message):
    """PCM16 of a message's sound."""
    source = message.find_element(By.CSS_SELECTOR, "audio").get_attribute("src")
    script = """
        const [source, done] = arguments;
        files[source].arrayBuffer().then((buffer) => {
          let text = "";
          for (const byte of new Uint8Array(buffer)) text += String.fromCharCode(byte);
          done(btoa(text));
        });
    """
    return np.frombuffer(base64.b64decode(page.execute_async_script(script, source))[44:], dtype="<i2")


def test_asked_by_text(page, engine):
    said = text_of(ask(page, "what colour"))
    assert said.split() == engine.generate("what colour", max_new_tokens=8).split()
    assert "tokens in, 8 out" in messages(page, "assistant")[0].find_element(By.CSS_SELECTOR, ".about").text


def test_a_screen_reader_is_told_whole_sentences(page):
    said = ask(page, "what colour").find_element(By.CSS_SELECTOR, ".text").get_attribute("textContent")
    told = page.execute_script("return [...document.querySelectorAll('#announcer p')].map((line) => line.textContent)")
    assert "".join(told).split() == said.split()
    assert len(told) <= 2  # the eight tokens are not told one by one
    script = "return [...document.querySelectorAll('[aria-live], [role=log], [role=status]')].map((each) => each.id)"
    assert page.execute_script(script) == ["status", "announcer"]


def test_asked_by_a_picture_of_the_gallery(page):
    page.find_elements(By.CSS_SELECTOR, "#gallery button")[0].click()
    answer(page)
    assert messages(page, "user")[0].find_element(By.CSS_SELECTOR, ".media img").is_displayed()
    element(page, "examples").click()
    page.find_elements(By.CSS_SELECTOR, "#examples-dialog #gallery button")[3].click()
    answer(page, 2)
    assert not element(page, "examples-dialog").is_displayed()


def test_asked_by_files(page, picture):
    element(page, "pick").send_keys(f"{picture}\n{picture}")
    until(lambda: len(page.find_elements(By.CSS_SELECTOR, "#attachments img")) == 2)
    page.find_elements(By.CSS_SELECTOR, "#attachments button")[0].click()
    element(page, "send").click()
    answer(page)
    assert len(messages(page, "user")[0].find_elements(By.CSS_SELECTOR, ".media img")) == 1


def test_a_picture_is_dropped(page):
    page.execute_script("""
        const canvas = document.createElement("canvas");
        canvas.toBlob((blob) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([blob], "picture.png", { type: "image/png" }));
          for (const name of ["dragover", "drop"]) {
            document.body.dispatchEvent(new DragEvent(name, { bubbles: true, cancelable: true, dataTransfer: transfer }));
          }
          document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer }));
        });
    """)
    until(lambda: len(page.find_elements(By.CSS_SELECTOR, "#attachments img")) == 2)


def test_asked_by_the_camera(page):
    element(page, "camera").click()
    until(lambda: page.switch_to.active_element.get_attribute("id") == "camera-take")
    press(page, Keys.ENTER)
    until(lambda: page.find_elements(By.CSS_SELECTOR, "#attachments img"))
    assert page.execute_script("return document.getElementById('camera-view').srcObject") is None
    element(page, "send").click()
    answer(page)


def test_asked_by_voice(page):
    element(page, "microphone").click()
    until(lambda: int(element(page, "level").get_attribute("aria-valuenow")) > 50)
    until(lambda: "Recording 1 s" in element(page, "listening-text").text)
    element(page, "microphone").click()
    answer(page)
    user = messages(page, "user")[0]
    heard = samples(page, user)
    assert len(heard) > 8000
    assert np.abs(heard).max() > 1000
    label = user.find_element(By.CSS_SELECTOR, "canvas").get_attribute("aria-label")
    assert label.startswith("spectrogram of your recording")
    assert until(lambda: user.find_element(By.CSS_SELECTOR, ".transcript").text)


def test_a_word_plays_from_its_time(page):
    """Of a transcript with times, however good this model's are."""
    page.execute_async_script("""
        const done = arguments[0];
        import("/page/js/view.js").then(({ addMessage }) => {
          const view = addMessage("user");
          view.addSound(new Int16Array(48000), 24000, "your recording");
          view.addTranscript("red ring", [
            { word: "red", start: 0.1, end: 0.5, confidence: 0.9 }, { word: "ring", start: 1.2, end: 1.9, confidence: 0.4 },
          ]);
          done();
        });
    """)
    word = page.find_elements(By.CSS_SELECTOR, ".transcript button")[1]
    assert word.text.split() == ["ring", "1.2", "s"]
    assert word.get_attribute("title") == "1.20 to 1.90 s, confidence 40 %"
    word.click()
    until(lambda: word.get_attribute("aria-current") == "true")
    assert page.execute_script("return document.querySelector('.message audio').currentTime") >= 1.2


def test_a_recording_is_discarded(page):
    element(page, "microphone").click()
    until(lambda: element(page, "cancel-recording").is_displayed())
    press(page, Keys.ESCAPE)
    until(lambda: not element(page, "listening").is_displayed())
    assert messages(page, "user") == []


def test_a_spoken_answer_is_the_apis(page, live):
    element(page, "speak").send_keys(Keys.SPACE)
    message = ask(page, "tell me 1 2 3")
    body = {
        "model": "tiny", "messages": [{"role": "user", "content": [{"type": "text", "text": "tell me 1 2 3"}]}],
        "modalities": ["text", "audio"], "audio": {"voice": "0", "format": "pcm16"},
    }  # fmt: skip
    spoken = live.http.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["audio"]
    expected = np.frombuffer(base64.b64decode(spoken["data"]), dtype="<i2")
    assert len(expected) > 1000
    assert np.array_equal(samples(page, message), expected)
    played = page.execute_script(
        "return played.map(({ samples }) => samples.map((each) => 32768 * each).join()).join()"
    )
    assert np.array_equal(np.fromstring(played, sep=","), expected)


def test_a_new_question_ends_the_sound_at_once(page):
    page.execute_script("document.getElementById('max_tokens').value = 40")
    element(page, "speak").send_keys(Keys.SPACE)
    for end in ((Keys.ESCAPE,), ("what", Keys.ENTER)):
        element(page, "question").send_keys("tell me 1 2 3", Keys.ENTER)
        until(lambda: page.execute_script("return sounding()"))
        page.execute_script("document.getElementById('speak').checked = false")
        element(page, "question").send_keys(*end)
        sounding, played = page.execute_script("return [sounding(), played.length]")
        assert sounding == 0
        until(lambda: not element(page, "stop").is_displayed())
        assert page.execute_script("return played.length") == played
        page.execute_script("document.getElementById('speak').checked = true")
    roles = page.execute_script("return [...document.querySelectorAll('.message')].map((each) => each.classList[1])")
    assert roles[-2:] == ["user", "assistant"]


def test_hands_free(page):
    element(page, "hands-free").click()
    first = until(lambda: messages(page, "user"))[0]
    until(lambda: first.find_element(By.CSS_SELECTOR, ".transcript").text)
    words = first.find_elements(By.CSS_SELECTOR, ".transcript button")
    assert words or first.find_element(By.CSS_SELECTOR, ".transcript").text == "(no words)"
    assert first.find_element(By.CSS_SELECTOR, "canvas").is_displayed()
    element(page, "hands-free").click()
    assert element(page, "hands-free").get_attribute("aria-pressed") == "false"
    assert page.execute_script("return sounding()") == 0
    ask(page, "what", len(messages(page, "assistant")) + 1)  # goes on in writing


def test_hands_free_takes_typed_questions(page):
    ask(page, "what colour")
    element(page, "hands-free").click()
    until(lambda: "Listening" in element(page, "listening-text").text)
    element(page, "question").send_keys("what shape", Keys.ENTER)
    until(lambda: any("what shape" in each.text for each in messages(page, "user")))
    answer(page, 2)
    press(page, Keys.ESCAPE)
    until(lambda: element(page, "hands-free").get_attribute("aria-pressed") == "false")


def test_an_error_is_shown_in_the_servers_words(page):
    page.execute_script("document.getElementById('system').value = 'what '.repeat(500)")
    element(page, "question").send_keys("tell me", Keys.ENTER)
    shown = until(lambda: messages(page, "error"))[0]
    assert "Too many tokens" in shown.text
    page.execute_script("document.getElementById('system').value = ''")
    shown.find_element(By.CSS_SELECTOR, "button").click()
    answer(page)
    assert messages(page, "error") == []
    assert len(messages(page, "user")) == 1


def test_a_long_conversation_goes_on_without_its_beginning(page):
    for number in range(1, 6):
        message = ask(page, "what colour is the ring and the cross and the square", number)
        assert text_of(message)
    assert messages(page, "error") == []
    assert "no longer fits" in element(page, "status").text


def test_an_error_in_the_middle_of_an_answer(page, monkeypatch):
    whole = chat._chunks

    async def broken(*args, **kwargs):
        number = 0
        async for chunk in whole(*args, **kwargs):
            yield chunk
            if (number := number + 1) == 4:
                raise QueueFull("the speech is busy", retry_after=3.0)

    monkeypatch.setattr(chat, "_chunks", broken)
    element(page, "question").send_keys("what colour", Keys.ENTER)
    assert "the speech is busy" in until(lambda: messages(page, "error"))[0].text
    assert text_of(answer(page))
    monkeypatch.undo()
    page.find_element(By.CSS_SELECTOR, ".error button").click()
    until(lambda: messages(page, "error") == [])
    assert "tokens in" in answer(page).text


def test_a_busy_server_says_when_to_try_again(page, monkeypatch):
    async def busy(*args, **kwargs):
        raise QueueFull("64 requests wait", retry_after=2.5)

    monkeypatch.setattr(chat, "submit", busy)
    element(page, "question").send_keys("what colour", Keys.ENTER)
    shown = until(lambda: messages(page, "error"))[0].text
    assert "64 requests wait; free again in about 3 s" in shown


def test_a_server_with_a_key(browser, start):
    page = open_page(browser, start(key="a-key-of-20-letters"))
    assert element(page, "key-needed").is_displayed()
    assert page.switch_to.active_element.get_attribute("id") == "key"
    press(page, "a-key-of-20-letters", Keys.ENTER)
    until(lambda: not element(page, "settings").is_displayed())
    until(lambda: page.execute_script("return document.getElementById('voice').length"))
    assert text_of(ask(page, "what colour"))


def test_a_server_that_has_gone(browser, start):
    server = start()
    page = open_page(browser, server)
    server.server.should_exit = True
    server.thread.join(30)
    element(page, "question").send_keys("what colour", Keys.ENTER)
    assert "the server cannot be reached" in until(lambda: messages(page, "error"))[0].text


def test_whoever_reads_is_not_moved(page):
    script = """
        const [role, lines, done] = arguments;
        import("/page/js/view.js").then(({ addMessage }) => {
          const view = addMessage(role);
          for (let line = 0; line < lines; line++) view.append(`line ${line}\\n`);
          requestAnimationFrame(() => requestAnimationFrame(done));
        });
    """
    gap = "const log = document.getElementById('log'); return log.scrollHeight - log.clientHeight - log.scrollTop"
    page.execute_async_script(script, "assistant", 100)
    assert page.execute_script(gap) < 2  # at the end, it follows
    page.execute_async_script(
        "document.getElementById('log').scrollTop = 300; const done = arguments[0]; setTimeout(done, 100)"
    )
    page.execute_async_script(script, "assistant", 100)
    assert page.execute_script("return document.getElementById('log').scrollTop") == 300
    element(page, "newest").click()
    assert page.execute_script(gap) < 2
    assert not element(page, "newest").is_displayed()


def test_by_keyboard_alone(page):
    order = []
    while "send" not in order and len(order) < 60:
        press(page, Keys.TAB)
        order.append(page.switch_to.active_element.get_attribute("id"))
    wanted = [
        "examples", "new", "theme", "open-settings", "log", "question", "pick", "camera", "microphone", "hands-free", "speak",
        "send",
    ]  # fmt: skip
    assert [name for name in order if name in wanted] == wanted
    element(page, "open-settings").send_keys(Keys.ENTER)
    until(lambda: element(page, "settings").is_displayed())
    press(page, Keys.ESCAPE)
    until(lambda: not element(page, "settings").is_displayed())
    assert page.switch_to.active_element.get_attribute("id") == "open-settings"
    press(page, Keys.SHIFT)
    element(page, "theme").send_keys(Keys.SPACE)
    assert page.execute_script("return document.documentElement.dataset.theme") == "dark"
    page.find_elements(By.CSS_SELECTOR, "#gallery button")[1].send_keys(Keys.ENTER)
    answer(page)


def violations(page):
    """What axe-core finds, and what is wider than the window."""
    found = page.execute_async_script(
        "axe.run({ resultTypes: ['violations'] }).then(({ violations }) => arguments[0](violations))"
    )
    wide = page.execute_script("return document.documentElement.scrollWidth > innerWidth")
    return [(each["id"], [node["html"][:120] for node in each["nodes"]]) for each in found] + ["too wide"] * wide


@pytest.fixture(scope="module")
def axe():
    modules = os.environ.get("MUOMNI_NODE_MODULES")
    if not modules:
        pytest.skip("needs MUOMNI_NODE_MODULES=FOLDER with: npm install axe-core")
    return (Path(modules) / "axe-core" / "axe.min.js").read_text()


def test_no_violation_of_accessibility(page, axe, picture):
    """A conversation with picture, recording, transcript, speech and an error; an empty page; each dialog; a recording."""
    page.execute_script(axe)
    looks = list(itertools.product((360, 768, 1280), ("light", "dark")))

    def look(width, theme):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        page.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
        return violations(page)

    try:
        assert look(1280, "light") == []
        for name in ("settings", "examples-dialog"):
            page.execute_script("document.getElementById(arguments[0]).showModal()", name)
            assert look(360, "dark") == []
            page.execute_script("document.getElementById(arguments[0]).close()", name)
        element(page, "camera").click()
        until(lambda: page.switch_to.active_element.get_attribute("id") == "camera-take")
        assert [look(*each) for each in looks] == [[]] * len(looks)
        page.switch_to.active_element.send_keys(Keys.ESCAPE)
        element(page, "pick").send_keys(str(picture))
        until(lambda: page.find_elements(By.CSS_SELECTOR, "#attachments img"))
        page.execute_script("document.getElementById('microphone').click()")
        until(lambda: "Recording 1 s" in element(page, "listening-text").text)
        assert look(360, "light") == []
        page.execute_script("document.getElementById('speak').checked = true")
        page.execute_script("document.getElementById('microphone').click()")
        answer(page)
        page.execute_async_script("""
            const done = arguments[0];
            import("/page/js/view.js").then(({ addError, addMessage }) => {
              addError("64 requests wait", () => undefined);
              const view = addMessage("user", { text: "long".repeat(200) });
              view.addSound(new Int16Array(48000), 24000, "your recording");
              view.addTranscript("red", [{ word: "red", start: 0.1, end: 0.5, confidence: 0.1 }]);
              document.querySelector(".transcript button").setAttribute("aria-current", "true");
              done();
            });
        """)
        assert [look(*each) for each in looks] == [[]] * len(looks)
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

"""The page's modules that need no browser, by node's own test runner: page.test.mjs."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from muomni.serving.app import STATIC


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_modules_without_a_browser(tmp_path):
    shutil.copytree(STATIC / "js", tmp_path / "js")
    (tmp_path / "package.json").write_text('{"type": "module"}')  # browsers need none
    done = subprocess.run(
        ["node", "--test", str(Path(__file__).with_name("page.test.mjs"))],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PAGE": (tmp_path / "js").as_uri()},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_the_page_names_exists():
    """Ids, icons and modules: a browser would only complain when they are needed."""
    html, scripts = (
        (STATIC / "index.html").read_text(),
        {path: path.read_text() for path in (STATIC / "js").glob("*.js")},
    )
    ids = set(re.findall(r'\bid="([\w-]+)"', html))
    for path, script in scripts.items():
        named = set(re.findall(r'(?:\$|getElementById)\("([\w-]+)"\)', script))
        named |= {f"i-{name}" for name in re.findall(r'icon\("([\w-]+)"\)', script)} | set(
            re.findall(r'"#(i-[\w-]+)"', script)
        )
        assert named <= ids, path.name
        for module in re.findall(r'from "\./([\w.]+)"', script):
            assert (STATIC / "js" / module).is_file(), f"{path.name}: {module}"
    assert set(re.findall(r'href="#(i-[\w-]+)"', html)) <= ids
    for address in re.findall(r'(?:href|src)="/page/([\w./-]+)"', html):
        assert (STATIC / address).is_file(), address


def test_the_page_keeps_to_its_content_policy():
    """No inline script, style or handler, and nothing from elsewhere."""
    html = (STATIC / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=|https?://(?!www\.w3\.org)", html)
    for path in (STATIC / "js").glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", path.read_text()), (
            path.name
        )

"""What `from muomni import ...` offers."""

import subprocess
import sys

import pytest

import muomni


def test_every_name_is_found_and_listed():
    for name in muomni.__all__:
        assert getattr(muomni, name).__name__ == name
        assert name in dir(muomni)
    with pytest.raises(AttributeError, match="has no attribute 'load'"):
        _ = muomni.load


def test_errors_are_value_errors_that_name_the_option():
    for name in ("InvalidOption", "InvalidMedia", "ContextLength", "MissingModule", "Cancelled"):
        assert issubclass(getattr(muomni, name), muomni.MuomniError)
    with pytest.raises(ValueError, match="top_p=3 is out of its range") as caught:
        muomni.GenerationOptions(top_p=3)
    assert isinstance(caught.value, muomni.InvalidOption) and caught.value.param == "top_p"
    assert muomni.QueueFull("full", retry_after=2.0).retry_after == 2.0


def test_the_package_alone_is_imported_fast():
    code = "import time; start = time.process_time(); import muomni; print(time.process_time() - start)"
    seconds = min(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    )
    assert seconds < 0.1

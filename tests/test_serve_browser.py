"""The page of the server in a real Chromium, at the size of a desk and of a phone."""

import json

import numpy as np
import pytest
import serving
from browser import Browser, find
from serving import mel, npy, recorded

from fwn.synthesis.vocoder import Vocoder

PAINTED = """[...document.querySelectorAll('canvas')].filter((c) => c.clientWidth).map((c) => {
  const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  return new Set(new Uint32Array(d.buffer)).size;
})"""
DONE = "document.querySelector('#status').textContent.endsWith('made.')"


@pytest.fixture(scope="module")
def served():
    find()
    with serving.server(Vocoder(serving.voice())) as server:
        server.engine.warm()
        yield server


@pytest.fixture
def page(served, tmp_path):
    with Browser(tmp_path / "browser") as opened:
        yield opened
        assert opened.messages == []
        assert not [url for url in opened.requests if not url.startswith((served.address, "blob:", "data:", "about:"))]


def show(page, served):
    page.send("Page.navigate", url=f"{served.address}/")
    page.until("document.readyState === 'complete' && location.protocol === 'http:'")
    page.until("document.querySelector('#model').textContent.startsWith('flowavenet')")


def drop(page, name: str, content: bytes) -> None:
    """Drops a file onto the page."""
    page.js(
        f"(() => {{ const files = new DataTransfer();"
        f"files.items.add(new File([Uint8Array.from({json.dumps(list(content))})], {json.dumps(name)}));"
        "document.querySelector('#drop').dispatchEvent("
        "new DragEvent('drop', {dataTransfer: files, bubbles: true, cancelable: true})); })()"
    )


def fits(page) -> bool:
    return page.js("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(("width", "height", "dark"), [(1280, 800, False), (360, 740, True)])
def test_a_recording_and_its_copies(page, served, width, height, dark):
    """Dropped, heard, seen; at no size wider than the screen."""
    page.size(width, height, dark)
    show(page, served)
    assert fits(page)
    assert page.js("[...document.querySelector('#speaker').options].map((o) => o.value)") == ["ann", "bob"]
    drop(page, "said.wav", recorded(20_000))
    page.until(DONE)
    page.until("clips.every((clip) => clip.wave && clip.nats && clip.player.duration > 0.9)")
    titles = page.js("clips.map((clip) => clip.title)")
    assert titles == ["Recording: said.wav", "Copy, T = 0.6", "Copy, T = 0.8", "Copy, T = 1"]
    assert page.js("clips.map((clip) => clip.mel.mel.length)") == [79, 80, 80, 80]
    colours = page.js(PAINTED)
    assert len(colours) == 8
    assert min(colours) > 3, colours
    assert fits(page)
    assert page.js("document.querySelector('#error').hidden")
    page.js("clips[2].player.loop = true")
    page.click("figure:nth-child(3) canvas")
    page.until("!clips[2].player.paused")
    page.js("clips[0].player.play()")
    page.until("clips[2].player.paused")  # one at a time
    small = "[...document.querySelectorAll('button, .button, input[type=text], select')].map((e) =>"
    small += " e.getBoundingClientRect()).filter((r) => r.width && (r.height < 44 || r.width < 44)).length"
    assert page.js(small) == 0


def test_a_mel_by_keyboard_and_with_a_screen_reader(page, served, tmp_path):
    """Settings and the button by keyboard, every control has a name; a mel has no recording to hear."""
    page.size(1280, 800)
    show(page, served)
    (tmp_path / "some.npy").write_bytes(npy(mel(60)))
    page.send("DOM.enable")
    root = page.send("DOM.getDocument")["root"]["nodeId"]
    chosen = page.send("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    page.send("DOM.setFileInputFiles", files=[str(tmp_path / "some.npy")], nodeId=chosen)
    page.until(DONE)
    assert page.js("clips.map((clip) => !!clip.player)") == [False, True, True, True]
    page.js("document.querySelector('#temperatures').select(), document.querySelector('#temperatures').focus()")
    for key in "0.5":
        page.press(key)
    page.press("Enter")
    page.until("clips.length === 2")
    page.until(DONE)
    assert page.js("clips[1].title") == "Copy, T = 0.5"
    page.send("Accessibility.enable")
    nodes = [n for n in page.send("Accessibility.getFullAXTree")["nodes"] if not n["ignored"] and "name" in n]
    told = [(n["role"]["value"], n["name"]["value"]) for n in nodes]
    roles = ("button", "textbox", "combobox", "image", "Audio", "link", "status", "alert")
    assert all(name for role, name in told if role in roles if role not in ("status", "alert")), told
    assert ("Audio", "Copy, T = 0.5") in told
    assert ("image", "Spectrogram: Mel: some.npy") in told


def test_errors_are_said_in_plain_words(page, served):
    """Of the name, of the settings, of the server; and the page goes on."""
    show(page, served)
    error = "document.querySelector('#error').hidden ? '' : document.querySelector('#error').textContent"
    drop(page, "notes<b>.txt", b"hello")
    page.until(f"({error}).startsWith('notes<b>.txt is neither a recording nor a mel by its name.')")
    page.js("document.querySelector('#temperatures').value = 'hot'")
    drop(page, "said.wav", recorded(20_000))
    page.until(f"({error}) === 'Give one to 4 temperatures from 0 to 10, as in 0.6, 0.8, 1.0.'")
    page.js("document.querySelector('#temperatures').value = '0.7'")
    page.messages.clear()
    drop(page, "bad.npy", npy(np.zeros((9, 9), np.float32)))
    page.until(f"({error}).startsWith('The server refused it: body.npy: the mel has the shape [9, 9], but')")
    page.messages.clear()  # the browser's own line about a status of 400
    drop(page, "said.wav", recorded(20_000))
    page.until(DONE)
    assert page.js(error) == ""

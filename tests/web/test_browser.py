"""The pages in a real browser, against a real service with a fake pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.web.chromium import CHROMIUM, Tab
from tests.web.conftest import BROKEN, CARD, Site, expected_scores

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs {CHROMIUM}")

HOSTILE = "<img src=x onerror=document.title='hit'>.mp3"
OpenTab = Callable[[], Tab]

ROWS = """
[...document.querySelectorAll("#tracks > li")].map((row) => ({
  title: row.querySelector("h3").textContent,
  state: row.dataset.state,
  text: row.textContent,
  meters: Object.fromEntries(
    [...row.querySelectorAll("[role=meter]")].map((meter) => [meter.ariaLabel, Number(meter.ariaValueNow)])
  ),
}))
"""


def enter_key(tab: Tab, key: str) -> None:
    tab.evaluate(
        "(() => { const field = document.querySelector('#key');"
        f" field.value = {json.dumps(key)}; field.dispatchEvent(new Event('input')); }})()"
    )


def text(tab: Tab, selector: str) -> str:
    return str(tab.evaluate(f"document.querySelector({json.dumps(selector)}).textContent"))


def file_of(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def settled(tab: Tab) -> list[dict[str, Any]]:
    """The rows, once none is on its way."""
    return list(
        tab.until(f"""(() => {{
          const rows = {ROWS};
          return rows.length && rows.every((row) => !["waiting", "sending", "analysing"].includes(row.state)) && rows;
        }})()""")
    )


def test_files_are_analysed_one_after_the_other(open_tab: OpenTab, site: Site, tmp_path: Path) -> None:
    tab = open_tab()
    tab.open(site.url)
    tab.until("document.querySelector('#files-hint').textContent.includes('200 kB')")
    good, other = b"a song", b"another song"
    paths = [
        file_of(tmp_path, HOSTILE, good),
        file_of(tmp_path, "broken.flac", BROKEN),
        file_of(tmp_path, "big.wav", bytes(200_001)),
        file_of(tmp_path, "empty.wav", b""),
        file_of(tmp_path, "other.ogg", other),
    ]
    # Files first and then the key: they wait for it.
    tab.choose("#files", *paths)
    tab.until("document.querySelectorAll('#tracks > li').length === 5")
    assert [row["state"] for row in tab.evaluate(ROWS)] == ["waiting", "waiting", "refused", "refused", "waiting"]
    assert site.pipeline.calls == 0
    enter_key(tab, site.key)
    rows = settled(tab)

    assert [row["state"] for row in rows] == ["done", "failed", "refused", "refused", "done"]
    assert [row["title"] for row in rows] == [path.name for path in paths]
    assert site.pipeline.calls == 3
    assert rows[0]["meters"] == expected_scores(good)
    assert rows[4]["meters"] == expected_scores(other)
    energy = CARD["heads"]["energy"]
    assert f"r = {energy['pearson_r']:.2f} (95 % interval {energy['ci95'][0]:.2f} to" in rows[0]["text"]
    assert energy["truth"] in rows[0]["text"]
    assert energy["meaning"] in rows[0]["text"]
    for head, facts in CARD["heads"].items():
        assert (f"not shipped: r = {facts['pearson_r']:.2f}" in rows[0]["text"]) or facts["shipped"], head
    assert "this cannot be decoded <b>at all</b>" in rows[1]["text"]
    assert "audio_corrupt" in rows[1]["text"]
    assert "trace id" in rows[1]["text"]
    assert "larger than the 200 kB" in rows[2]["text"]
    assert "990 credits left" in text(tab, "#key-state")
    assert "other.ogg: energy" in text(tab, "#announce")

    # What came from outside is text; and no key is in an address or kept.
    assert tab.evaluate("document.querySelectorAll('#tracks img, #tracks b b, .problem b').length") == 0
    assert tab.evaluate("document.title") != "hit"
    addresses = tab.evaluate("[location.href, ...performance.getEntriesByType('resource').map((entry) => entry.name)]")
    assert all(address.startswith(site.url) and site.key not in address for address in addresses)
    assert tab.evaluate("sessionStorage.length + localStorage.length") == 0
    refused = [complaint for complaint in tab.complaints if "422" not in complaint]
    assert refused == []


def test_the_key_is_kept_only_on_request(open_tab: OpenTab, site: Site) -> None:
    tab = open_tab()
    tab.open(site.url)
    enter_key(tab, site.key)
    tab.until("document.querySelector('#key-state').textContent.includes('credits left')")
    tab.open(f"{site.url}/?again")
    assert tab.evaluate("document.querySelector('#key').value") == ""
    tab.evaluate("document.querySelector('#key-keep').click()")
    enter_key(tab, site.key)
    tab.until("sessionStorage.length === 1")
    tab.open(f"{site.url}/?once-more")
    tab.until("document.querySelector('#key-state').textContent.includes('credits left')")
    tab.evaluate("document.querySelector('#key-forget').click()")
    assert tab.evaluate("[sessionStorage.length, document.querySelector('#key').value]") == [0, ""]


def test_a_wrong_key_and_an_empty_balance_are_told(open_tab: OpenTab, site: Site, tmp_path: Path) -> None:
    tab = open_tab()
    tab.open(site.url)
    enter_key(tab, "tl_live_" + "x" * 43)
    tab.until("document.querySelector('#key-state').textContent.includes('code unauthorized')")
    assert "trace id" in text(tab, "#key-state")
    enter_key(tab, site.poor_key)
    tab.until("document.querySelector('#key-state').textContent.includes('5 credits left')")
    tab.choose("#files", file_of(tmp_path, "1.mp3", b"one"), file_of(tmp_path, "2.mp3", b"two"))
    tab.until("!document.querySelector('#paused').hidden")
    assert "insufficient_credits" in text(tab, "#paused")
    assert [row["state"] for row in tab.evaluate(ROWS)] == ["done", "waiting"]
    # Another key, and it goes on.
    enter_key(tab, site.key)
    assert [row["state"] for row in settled(tab)] == ["done", "done"]
    assert tab.evaluate("document.querySelector('#paused').hidden")


def test_the_card_is_shown(open_tab: OpenTab, site: Site) -> None:
    tab = open_tab()
    tab.open(site.url)
    tab.until("document.querySelectorAll('#limits li').length")
    shown = tab.evaluate("[...document.querySelectorAll('#limits li')].map((item) => item.textContent)")
    assert shown == CARD["limits"]
    trust = text(tab, "#trust")
    for head, facts in CARD["heads"].items():
        assert head in trust
        assert ("not shipped: " if not facts["shipped"] else "") + f"r = {facts['pearson_r']:.2f}" in trust
    assert f"curl {site.url}/v1/analyze" in text(tab, "#curl")


def test_reference_shows_every_call(open_tab: OpenTab, site: Site) -> None:
    document = httpx.get(f"{site.url}/openapi.json").json()
    tab = open_tab()
    tab.open(f"{site.url}/docs#schema-Problem")
    tab.until("document.querySelectorAll('.call').length")
    shown = {
        call["address"]: call["text"]
        for call in tab.evaluate(
            "[...document.querySelectorAll('.call')].map((call) => ({ text: call.textContent,"
            " address: (call.querySelector('.call-address') ?? call.querySelector('h3')).textContent }))"
        )
    }
    for path, item in document["paths"].items():
        for method, operation in item.items():
            call = shown.pop(f"{method.upper()} {path}")
            assert operation["summary"] in call
            assert all(part in call for part in operation["description"].replace("`", "").split("\n\n"))
            assert "curl " in call
            if "application/json" in operation.get("requestBody", {}).get("content", {}):
                assert "@request.json" in call
                assert "@song.mp3" not in call
            assert ("Needs a key" in call) == ("security" in operation)
            for part in (*operation["responses"], *operation.get("requestBody", {}).get("content", {})):
                assert part in call
            for parameter in operation.get("parameters", []):
                assert parameter["name"] in call
    assert set(shown) == set(document["components"]["schemas"])
    assert all(field in shown["Problem"] for field in document["components"]["schemas"]["Problem"]["properties"])
    assert "_meta.credits_remaining" in shown["AnalysisAnswer"]
    # Every link on the page leads somewhere, and the one in the address was followed.
    dead = "[...document.querySelectorAll('a[href^=\"#\"]')].filter((a) => !document.querySelector(a.hash)).length"
    assert tab.evaluate(dead) == 0
    tab.until("Math.abs(document.querySelector('#schema-Problem').getBoundingClientRect().top) < innerHeight")
    assert tab.complaints == []


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_everything_has_a_name_and_fits_a_phone(open_tab: OpenTab, site: Site, path: str, tmp_path: Path) -> None:
    tab = open_tab()
    tab.look(360, 740, mobile=True)
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    tab.open(site.url + path)
    if path == "/":
        enter_key(tab, site.key)
        tab.choose("#files", file_of(tmp_path, f"{'long' * 40}.mp3", b"a song"))
        settled(tab)
        animation = "getComputedStyle(document.querySelector('.score-bar'), '::before').animationName"
        assert tab.evaluate(animation) == "none"
    else:
        tab.until("document.querySelectorAll('.call').length")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    roles = ("button", "link", "textbox", "checkbox", "meter", "region", "navigation", "heading")
    named = [node for node in nodes if not node["ignored"] and node["role"]["value"] in roles]
    assert len(named) > 10
    assert [node for node in named if not node.get("name", {}).get("value")] == []
    # The first stop of the keyboard leads past the header, and can be seen.
    tab.press("Tab", 9)
    assert tab.evaluate("document.activeElement.className") == "skip"
    tab.until("document.activeElement.getBoundingClientRect().top >= 0")

"""What holds for the files of the pages whatever they show: nothing inline or from elsewhere, no markup of data."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any, TypeVar

import httpx
import pytest

from tests.service.support import FakePipeline
from tunelab.service.app import create_app
from tunelab.settings import load_settings

T = TypeVar("T")

FILES = {item.name: item.read_text("utf-8") for item in files("tunelab.web").iterdir() if not item.name.startswith("_")}
PAGES = {"/": "index.html", "/docs": "docs.html"}
TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
SVG_NAMESPACE = "http://www.w3.org/2000/svg"
IMPORT = re.compile(r"""^(?:import|export)\b[^;]*?\bfrom\s+["']([^"']+)["']|\bimport\s*\(?\s*["']([^"']+)["']""", re.M)


def of_kind(kind: str) -> list[str]:
    return sorted(name for name in FILES if name.endswith(f".{kind}"))


class Page(HTMLParser):
    """Every element of a page with its attributes, and the text inside scripts and styles."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.inline = ""
        self.feed(FILES[name])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:  # script or style
            self.inline += data

    def every(self, *tags: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.elements if tag in tags]

    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]


def ask(scenario: Callable[[httpx.AsyncClient], Awaitable[T]]) -> T:
    """Run against the routes without starting the service: the pages need neither a database nor a pipeline."""

    async def main() -> T:
        transport = httpx.ASGITransport(create_app(FakePipeline, load_settings()))
        async with httpx.AsyncClient(transport=transport, base_url="http://tunelab.test") as client:
            return await scenario(client)

    return asyncio.run(main())


def modules_from(name: str) -> set[str]:
    """A script and all that it imports, directly or not."""
    found, todo = set[str](), [name]
    while todo:
        module = todo.pop()
        if module in found:
            continue
        found.add(module)
        for match in IMPORT.finditer(FILES[module]):
            imported = match[1] or match[2]
            assert re.fullmatch(r"\./[a-z]+\.js", imported), f"{module} imports {imported}"
            todo.append(imported[2:])
    return found


@pytest.mark.parametrize("name", PAGES.values())
def test_pages_have_nothing_inline_or_from_elsewhere(name: str) -> None:
    page = Page(name)
    assert not page.inline.strip()
    assert all(script.get("src") and script["type"] == "module" for script in page.every("script"))
    assert not page.every("style", "base", "iframe", "object", "embed")
    for tag, attributes in page.elements:
        for attribute, value in attributes.items():
            assert attribute != "style", tag
            assert not attribute.startswith("on"), tag
            assert not re.match(r"\s*([a-z][a-z0-9+.-]*:|//)", value, re.I), f"{tag} {attribute}={value}"


@pytest.mark.parametrize("name", PAGES.values())
def test_pages_are_sound(name: str) -> None:
    page = Page(name)
    ids = page.ids()
    assert len(ids) == len(set(ids))
    assert page.every("html") == [{"lang": "en"}]
    assert len(page.every("h1")) == len(page.every("main")) == 1
    labels = {label.get("for") for label in page.every("label")}
    for field in page.every("input"):
        assert field["type"] == "checkbox" or field["id"] in labels
        # Without a name nothing of a form, and so no key, can come into an address.
        assert "name" not in field
    for _, attributes in page.elements:
        for attribute in ("for", "aria-labelledby", "aria-describedby"):
            assert set(attributes.get(attribute, "").split()) <= set(ids), attributes
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids


@pytest.mark.parametrize("name", PAGES.values())
def test_scripts_find_the_elements_that_they_name(name: str) -> None:
    page = Page(name)
    named = set()
    for script in page.every("script"):
        for module in modules_from(script["src"].rsplit("/", 1)[1]):
            named |= set(re.findall(r'byId\("([^"]+)"\)', FILES[module]))
    assert named
    assert named <= set(page.ids())


@pytest.mark.parametrize("name", of_kind("js"))
def test_scripts_make_no_markup_of_data(name: str) -> None:
    source = FILES[name].replace(SVG_NAMESPACE, "")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|setHTML|DOMParser", source)
    assert not re.search(r"createContextualFragment|\beval\b|\bFunction\(|localStorage|document\.cookie", source)
    assert not re.search(r"https?://|['\"`]//", source)
    assert "location.href" not in source


@pytest.mark.parametrize("name", [*of_kind("css"), *of_kind("svg")])
def test_styles_and_pictures_load_nothing(name: str) -> None:
    source = FILES[name].replace(SVG_NAMESPACE, "")
    assert not re.search(r"url\(|@import|https?:|<script|<style|<image|\son\w+=", source)


def test_every_file_is_used_and_served_with_its_type() -> None:
    used = set[str]()
    for name in PAGES.values():
        page = Page(name)
        for attributes in page.every("script", "link", "img"):
            address = attributes.get("src") or attributes["href"]
            assert address.startswith("/assets/")
            asset = address.removeprefix("/assets/")
            used |= modules_from(asset) if asset.endswith(".js") else {asset}
    assert used == set(FILES) - set(PAGES.values())

    async def scenario(client: httpx.AsyncClient) -> None:
        for name in used:
            answer = await client.get(f"/assets/{name}")
            assert answer.status_code == 200
            assert answer.headers["content-type"] == f"{TYPES[name.rsplit('.', 1)[1]]}; charset=utf-8"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.text == FILES[name]

    ask(scenario)


@pytest.mark.parametrize("path", ["/", "/docs", "/assets/base.css"])
def test_unchanged_files_are_not_sent_again(path: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        first = await client.get(path)
        assert first.headers["cache-control"] == "no-cache"
        tag = first.headers["etag"]
        for sent in (tag, f"W/{tag}", f'"other", {tag}'):
            again = await client.get(path, headers={"If-None-Match": sent})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert (await client.get(path, headers={"If-None-Match": '"other"'})).status_code == 200
        head = await client.head(path)
        assert (head.content, head.headers["content-length"]) == (b"", str(len(first.content)))

    ask(scenario)


@pytest.mark.parametrize("name", ["index.html", "__init__.py", "nothing.js", "..%2Fsettings.py", "..%2F..%2Fcard.json"])
def test_nothing_else_is_served(name: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> httpx.Response:
        return await client.get(f"/assets/{name}")

    answer: Any = ask(scenario)
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"

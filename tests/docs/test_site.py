"""The guide as a site: it builds without a warning, and no link in it is dead."""

from __future__ import annotations

import ast
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from guide import DOCS, REPOSITORY

import yoloproof


class _Page(HTMLParser):
    """The links out of a page and the anchors in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := values.get(key))}
        for key in ("href", "src"):
            link = values.get(key)
            if link and tag not in ("link",):
                self.links.append(link)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("zensical", reason="zensical is not installed (the docs extra)")
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(DOCS, folder / "docs")
    config = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    assert "paths: [src]" in config
    source = f"paths: [{REPOSITORY / 'src'}]"
    (folder / "mkdocs.yml").write_text(config.replace("paths: [src]", source), encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "-f", "mkdocs.yml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return folder / "site"


def test_every_page_is_built(site: Path) -> None:
    built = {page.stem for page in site.glob("*.html")}
    assert {page.stem for page in DOCS.glob("*.md")} <= built


def test_every_page_is_in_the_navigation() -> None:
    nav = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1]
    listed = re.findall(r"^ +- (\S+\.md)$", nav, re.MULTILINE)
    assert sorted(listed) == sorted(page.name for page in DOCS.glob("*.md")), "bring `nav` in mkdocs.yml up to date"


def test_no_dead_link_inside(site: Path) -> None:
    pages = {page: _Page(page.read_text(encoding="utf-8")) for page in site.glob("*.html") if page.name != "404.html"}
    dead = []
    for page, parsed in pages.items():
        for link in parsed.links:
            if urlsplit(link).scheme or link.startswith("//"):
                continue
            path, anchor = urldefrag(link)
            target = (page.parent / unquote(path)).resolve() if path else page
            if target.is_dir():
                target /= "index.html"
            known = pages.get(target)
            if not target.exists() or (anchor and known is not None and unquote(anchor) not in known.anchors):
                dead.append(f"{page.name}: {link}")
    assert dead == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "results/README.md"])
def test_links_of_the_repository_lead_somewhere(name: str) -> None:
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!https?://|#)([^)\s#]+)", text):
        assert ((REPOSITORY / name).parent / link).exists(), f"{name}: {link}"


def test_site_asks_nobody_elsewhere_for_anything(site: Path) -> None:
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*src="(https?:[^"]+)"', text)
        loaded += re.findall(r'<link[^>]*rel="stylesheet"[^>]*href="(https?:[^"]+)"', text)
        assert loaded == [], page.name


def test_api_page_has_what_it_promises(site: Path) -> None:
    """Every member that the page names is there, under its heading, with its docstring."""
    text = (site / "api.html").read_text(encoding="utf-8")
    for module, members in _api_members():
        for name in members:
            block = re.search(rf'id="{re.escape(module)}\.{name}"(.*?)(?=id="yoloproof\.|\Z)', text, re.DOTALL)
            assert block, f"{module}.{name} is not on the page"
            assert re.search(r'<div class="doc doc-contents[^"]*">\s*(?!<div)\S', block.group(1)), (
                f"{module}.{name}: no text"
            )


def test_api_page_names_every_public_function() -> None:
    listed = {name for _, members in _api_members() for name in members}
    for name in yoloproof.__all__:
        _, _, function = yoloproof._FUNCTIONS.get(name, "").partition(":")
        assert name.startswith("__") or {name, function} & listed, f"{name} is missing in docs/api.md"


def _api_members() -> list[tuple[str, list[str]]]:
    """(module, its members) of every `:::` in docs/api.md; without a list, the module's public functions and classes."""
    found = []
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    for module, listed in re.findall(r"^::: (\S+)(?:\n    options:\n      members: \[(.*)\])?$", text, re.MULTILINE):
        if listed:
            found.append((module, listed.split(", ")))
        elif not _is_module(module):
            found.append((module.rpartition(".")[0], [module.rpartition(".")[2]]))
        else:
            tree = ast.parse((REPOSITORY / "src" / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
            defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
            found.append((module, [name for name in defined if not name.startswith("_")]))
    return found


def _is_module(name: str) -> bool:
    return (REPOSITORY / "src" / f"{name.replace('.', '/')}.py").is_file()


def _outside() -> list[str]:
    links: set[str] = set()
    for page in DOCS.glob("*.md"):
        links |= set(re.findall(r"\]\((https://[^)\s]+)\)", page.read_text(encoding="utf-8")))
    return sorted(links)


def test_links_outside_are_https_and_whole() -> None:
    assert len(_outside()) > 10
    for link in _outside():
        assert urlsplit(link).hostname, link


@pytest.mark.parametrize("host", sorted({urlsplit(link).hostname or "" for link in _outside()}))
def test_no_dead_link_outside(host: str) -> None:
    try:
        socket.create_connection((host, 443), timeout=3).close()
    except OSError as error:
        pytest.skip(f"{host} cannot be reached from here ({error}): its links are not checked")
    for link in _outside():
        if urlsplit(link).hostname == host:
            request = urllib.request.Request(link, method="HEAD", headers={"User-Agent": "yoloproof link check"})
            with urllib.request.urlopen(request, timeout=20) as answer:
                assert answer.status < 400, link

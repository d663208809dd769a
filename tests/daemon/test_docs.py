"""The API's own page: all it needs comes from here, and a browser without network shows it."""

from __future__ import annotations

import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import pytest
from starlette.testclient import TestClient

from daemon.api import make_app

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMIUM_SECONDS = 120


class Addresses(HTMLParser):
    """Collects what a page makes a browser load, and what it runs or styles inline."""

    def __init__(self):
        super().__init__()
        self.loaded, self.inline = [], []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.loaded += [given[name] for name in ("src", "href") if name in given]
        handlers = [name for name in given if name.startswith("on") or name == "style"]
        if handlers or tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)


@pytest.fixture
def client(store):
    """A client of the application."""
    with TestClient(make_app(store, lambda: True), raise_server_exceptions=False) as opened:
        yield opened


@pytest.fixture
def page(client):
    """The page as a browser gets it."""
    response = client.get("/docs")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    return response


@pytest.fixture
def addresses(page):
    """What the page refers to."""
    parser = Addresses()
    parser.feed(page.text)
    return parser


def policy_of(response):
    """The content security policy as {directive: sources}."""
    parts = response.headers["content-security-policy"].split(";")
    return {part.split()[0]: part.split()[1:] for part in parts}


def test_all_that_the_page_loads_is_served_here(client, page, addresses):
    """Every address is of the same origin and answers 200 with the type that its use needs."""
    kinds = {".js": "text/javascript", ".css": "text/css", ".png": "image/png"}
    assert len(addresses.loaded) >= 3
    for address in addresses.loaded:
        absolute = urljoin(str(page.url), address)
        assert urlsplit(absolute).netloc == urlsplit(str(page.url)).netloc
        response = client.get(absolute)
        assert response.status_code == 200, address
        suffix = "." + address.rpartition(".")[2]
        assert response.headers["content-type"].startswith(kinds[suffix])
        assert response.content


def test_the_style_sheet_loads_nothing_from_elsewhere(client, addresses):
    """Its images are written into it, so the policy can do without other hosts."""
    [sheet] = [a for a in addresses.loaded if a.endswith(".css")]
    text = client.get(urljoin("/docs", sheet)).text
    assert "@import" not in text
    targets = re.findall(r"url\(\s*[\"']?([^\"')]{5})", text)
    assert targets
    assert set(targets) == {"data:"}


def test_the_page_shows_the_document_that_is_served(client, page, addresses):
    """The script that starts Swagger UI names our document, and no validator elsewhere."""
    scripts = [a for a in addresses.loaded if a.endswith(".js")]
    start = client.get(urljoin(str(page.url), scripts[-1])).text
    [address] = re.findall(r'url: "([^"]+)"', start)
    document = client.get(urljoin(str(page.url), address)).json()
    assert "/v1/experiences" in document["paths"]
    assert "validatorUrl: null" in start


def test_the_policy_lets_only_this_origin_in(client, page, addresses):
    """No host, no wildcard, nothing inline; the assets are sent with the same policy."""
    policy = policy_of(page)
    assert policy["default-src"] == ["'none'"]
    allowed = {source for sources in policy.values() for source in sources}
    assert allowed == {"'none'", "'self'", "data:"}
    assert [name for name, sources in policy.items() if "data:" in sources] == ["img-src"]
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == ["'none'"]
    assert addresses.inline == []
    for address in addresses.loaded:
        response = client.get(urljoin(str(page.url), address))
        assert policy_of(response) == policy
        assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/docs/main.py",
        "/docs/__init__.py",
        "/docs/../api.py",
        "/docs/..%2f__init__.py",
        "/docs/%2e%2e/main.py",
        "/docs/swagger-ui.css/x",
    ],
)
def test_nothing_else_of_the_package_is_served(client, path):
    """Only the named assets: no other file, and no way up."""
    assert client.get(path).status_code == 404


def test_the_page_is_only_read(client):
    """Another method is 405, as everywhere."""
    response = client.post("/docs")
    assert response.status_code == 405
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_without_network_shows_the_operations(serving, data, tmp_path):
    """Chromium that can reach only the daemon lists every operation, and blocks nothing."""
    with serving(data) as daemon:
        document = daemon.get("/openapi.json").json()
        dom, console = browse(f"{daemon.url}/docs", tmp_path / "profile")
    assert "Content Security Policy" not in console, console
    assert "Uncaught" not in console, console
    text = unescape(re.sub(r"<[^>]*>", "", dom)).replace("\u200b", "")
    for path, operations in document["paths"].items():
        assert path in text
        for operation in operations.values():
            assert operation["summary"] in text


def browse(url, profile):
    """(the page's document after its scripts ran, what the console said), in a fresh profile."""
    switches = (
        "--headless=new",
        "--no-sandbox",  # it has none where the tests run as root
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-first-run",
        "--enable-logging=stderr",
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
        "--virtual-time-budget=20000",
        f"--user-data-dir={profile}",
        "--dump-dom",
    )
    ran = subprocess.run(
        [CHROMIUM, *switches, url],
        capture_output=True,
        text=True,
        timeout=CHROMIUM_SECONDS,
        check=True,
    )
    return ran.stdout, "\n".join(line for line in ran.stderr.splitlines() if ":CONSOLE" in line)

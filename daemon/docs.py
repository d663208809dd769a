"""The API's own page at /docs: Swagger UI from an installed package, which asks no other host.

The policy it is sent with lets a browser load only from here, and run nothing written inline.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route

PACKAGE = "fastapi_swagger.resources"
"""Holds files of the npm package swagger-ui-dist 5, unchanged. Version 4 cannot show
OpenAPI 3.1, which is what FastAPI writes."""
ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",  # the icons in Swagger UI's style sheet
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
)
HEADERS = {
    "Content-Security-Policy": "; ".join(POLICY),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
# The addresses are relative: the page also works behind a proxy that adds a prefix.
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Bhavana API</title>
<link rel="icon" type="image/png" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
# Left to its default, validatorUrl would show our document to a public validator.
START = """SwaggerUIBundle({ url: "openapi.json", dom_id: "#swagger-ui", validatorUrl: null });
"""


def routes() -> list[Route]:
    """The page, the script that starts it, and the assets. None of them needs a key."""
    return [
        Route("/docs", _page),
        Route("/docs/start.js", _start),
        *(_asset(name, media) for name, media in ASSETS.items()),
    ]


async def _page(_: Request) -> Response:
    return HTMLResponse(PAGE, headers=HEADERS)


async def _start(_: Request) -> Response:
    return Response(START, media_type="text/javascript", headers=HEADERS)


def _asset(name: str, media: str) -> Route:
    path = Path(str(resources.files(PACKAGE) / name))

    async def send(_: Request) -> Response:
        return FileResponse(path, media_type=media, headers=HEADERS)

    return Route(f"/docs/{name}", send)

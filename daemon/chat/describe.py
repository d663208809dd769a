"""The two routes in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from daemon import bodies
from daemon.chat.envelope import ChatCompletion, ErrorAnswer, Models
from daemon.chat.request import AGREED, CONSENT, CONVERSATION, SUBJECT, ChatRequest

Schema = dict[str, Any]
SCHEMAS = (ChatRequest, ChatCompletion, Models, ErrorAnswer)
COMMON = {
    401: "No key, or one that is unknown, expired or revoked.",
    403: "A key without the scope chat; or one of no source, where exchanges are recorded.",
    404: "This daemon does not answer people, or there is no such model.",
    503: "Nobody answers now, or too many wait; Retry-After says when to ask again.",
}
OF_CHAT = {
    400: "Not valid JSON, no such request, or one that this does not do; `param` says where.",
    413: "More bytes than are taken at once.",
    415: "Another media type, charset or encoding than JSON in UTF-8.",
    429: "More than this key or person may send; Retry-After says when to go on.",
    500: "A fault of ours.",
    504: "The answer took longer than it may.",
}
HEADERS = {
    CONVERSATION: "The conversation's id; `metadata.conversation` says the same. All of it is "
    "answered by one release.",
    SUBJECT: "A pseudonym of the person, never a name or an address; `metadata.subject` and `user` "
    "say the same. What is recorded can be erased by it.",
    CONSENT: f"`{AGREED}; policy=2026-01` where the person agreed to that text, and that the "
    "exchange is learned from; `metadata.consent` says the same.",
}


def paths() -> dict[str, Schema]:
    """The operations by path."""
    chat = _operation("Answer a conversation.", "ChatCompletion", COMMON | OF_CHAT) | {
        "description": (
            "OpenAI's chat completions: whole, or with `stream: true` as server-sent events. "
            "`model` names a line of releases (`bhavana` is the main one); in the answer it is the "
            "release that spoke, and `id` is the experience's, on which feedback can be given. "
            "`bhavana.recorded` says whether the exchange was kept, in a stream in the event with "
            "`finish_reason`; `store: false` asks that it is not. Tools, several answers, JSON "
            "schemas and log-probabilities are refused; what is not known is ignored."
        ),
        "parameters": [_header(name, text) for name, text in HEADERS.items()],
        "requestBody": {
            "required": True,
            "content": {bodies.JSON: {"schema": _ref("ChatRequest")}},
        },
    }
    chat["responses"]["200"]["content"]["text/event-stream"] = {
        "schema": {"type": "string", "description": "Events with chat.completion.chunk, `[DONE]`."}
    }
    return {
        "/v1/chat/completions": {"post": chat},
        "/v1/models": {"get": _operation("What can be talked to.", "Models", COMMON)},
    }


def _operation(summary: str, answer: str, faults: dict[int, str]) -> Schema:
    answers: Schema = {"200": _content("Answered.", answer)}
    answers |= {str(status): _content(text, "ErrorAnswer") for status, text in faults.items()}
    return {"summary": summary, "tags": ["chat"], "security": [{"key": []}], "responses": answers}


def _content(description: str, kind: str) -> Schema:
    return {"description": description, "content": {bodies.JSON: {"schema": _ref(kind)}}}


def _header(name: str, description: str) -> Schema:
    shown = "-".join(part.capitalize() for part in name.split("-"))
    return {
        "name": shown,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string"},
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}

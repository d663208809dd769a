"""What a client asks in the words of OpenAI's chat completions, and whether we can do it.

What would make another answer than the client expects is refused by name (tools, several answers,
JSON schemas, log-probabilities); what we do not know is ignored, as the API's own servers do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from daemon.chat.settings import ServingSettings
from daemon.problems import Problem, pointer_of
from store.records import Identifier, Message, Name, Noun, Text

CONVERSATION, SUBJECT, CONSENT = "bhavana-conversation", "bhavana-subject", "bhavana-consent"
"""Headers; without the dash's first word also names in a request's `metadata`."""
AGREED = "training"
MOST_STOPS = 4
SEEDS = 2**32 - 1
"""llama.cpp's seeds are 32 bits wide, and the highest means: draw one."""

REFUSED: dict[str, tuple[Any, ...]] = {
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
}
"""What we cannot do, and the values that ask for nothing; null always does."""


Kind = TypeVar("Kind")


class Part(Struct):
    """A piece of a message."""

    type: Literal["text"]
    text: str


class Turn(Struct):
    """A message as a client sends it."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]


class StreamOptions(Struct):
    """What comes with a stream."""

    include_usage: bool | None = None


class ChatRequest(Struct, kw_only=True):
    """The body of a request; of what it may hold, what we heed."""

    model: str
    messages: Annotated[list[Turn], Meta(min_length=1)]
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=MOST_STOPS)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    """false: the exchange is not recorded, whatever the settings say."""
    user: str | None = None
    metadata: dict[str, str] | None = None


class Asked(Noun, frozen=True, kw_only=True):
    """A request that we can answer."""

    model: str
    messages: tuple[Message, ...]
    most_tokens: int
    temperature: float
    top_p: float
    presence_penalty: float
    frequency_penalty: float
    stop: tuple[str, ...]
    seed: int | None
    stream: bool
    with_usage: bool


class Wishes(Noun, frozen=True, kw_only=True):
    """Who asks, and what may be done with what is said; as the client says."""

    conversation: Identifier | None = None
    subject: Identifier | None = None
    agreed: bool = False
    """The person agreed that this is learned from."""
    policy: Name | None = None
    """To which text."""
    unrecorded: bool = False


class _Text(Struct):
    content: Text


def read(body: bytes, settings: ServingSettings) -> tuple[Asked, ChatRequest]:
    """What is asked, and all of the request. Raises Problem 400."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "bad_json", f"This is not valid JSON: {error}.") from error
    if isinstance(value, dict):
        _refuse(value)
    given = _convert(value, ChatRequest)
    if len(given.messages) > settings.most_messages:
        raise _invalid(
            f"A conversation holds at most {settings.most_messages} messages here, this one "
            f"{len(given.messages)}.",
            "/messages",
        )
    stop = (given.stop,) if isinstance(given.stop, str) else tuple(given.stop or ())
    if "" in stop:
        raise _invalid("An empty text stops nothing.", "/stop")
    wanted = given.max_completion_tokens or given.max_tokens or settings.most_tokens
    asked = Asked(
        model=given.model,
        messages=tuple(_message(turn, place) for place, turn in enumerate(given.messages)),
        most_tokens=min(wanted, settings.most_tokens),
        temperature=settings.temperature if given.temperature is None else given.temperature,
        top_p=given.top_p or 1.0,
        presence_penalty=given.presence_penalty or 0.0,
        frequency_penalty=given.frequency_penalty or 0.0,
        stop=stop,
        seed=None if given.seed is None else given.seed % SEEDS,
        stream=bool(given.stream),
        with_usage=bool(given.stream_options and given.stream_options.include_usage),
    )
    return asked, given


def wishes(given: ChatRequest, headers: Mapping[bytes, bytes]) -> Wishes:
    """Who asks and what is wished, by headers, else by the body. Raises Problem 400."""
    said = dict(given.metadata or {})
    for name in (CONVERSATION, SUBJECT, CONSENT):
        if (text := headers.get(name.encode())) is not None:
            said[name.removeprefix("bhavana-")] = text.decode("latin-1")
    consent = _consent(said.get("consent", ""))
    found = {
        "conversation": said.get("conversation"),
        "subject": said.get("subject", given.user),
        "agreed": AGREED in consent,
        "policy": consent.get("policy"),
        "unrecorded": given.store is False,
    }
    return _convert(found, Wishes)


def _consent(text: str) -> dict[str, str | None]:
    """`training; policy=2026-01` by its parts."""
    parts = (part.strip().partition("=") for part in text.split(";"))
    return {name.strip(): value.strip() or None for name, _, value in parts if name}


def _refuse(value: Mapping[str, Any]) -> None:
    for name, harmless in REFUSED.items():
        asked = value.get(name)
        if asked is not None and asked not in harmless:
            raise Problem(
                400,
                "unsupported_parameter",
                f"This does not do {name}.",
                hint="Leave it out: one answer in plain text is all there is.",
                pointer=f"/{name}",
            )


def _message(turn: Turn, place: int) -> Message:
    parts = turn.content
    text = parts if isinstance(parts, str) else "".join(part.text for part in parts)
    role = "system" if turn.role == "developer" else turn.role
    try:
        return Message(role=role, content=msgspec.convert({"content": text}, _Text).content)
    except msgspec.ValidationError as error:
        raise _invalid(f"{pointer_of(error)[1]}.", f"/messages/{place}/content") from error


def _convert(value: Any, kind: type[Kind]) -> Kind:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        where, reason = pointer_of(error)
        raise _invalid(f"{reason}.", where) from error


def _invalid(message: str, pointer: str) -> Problem:
    return Problem(400, "invalid", message, pointer=pointer)

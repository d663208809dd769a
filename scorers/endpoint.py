"""A language model behind HTTP: one question, one reply, with patience and under a budget.

Speaks OpenAI's chat completions and Ollama's /api/chat. It does not know what it is asked about.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import httpx
import msgspec
from msgspec import Struct

from scorers.ledger import Ledger
from scorers.settings import JudgeSettings
from store.errors import Misconfigured, Unavailable
from store.records import now, to_json

MOST_BYTES = 1_000_000
"""Of a reply. With twenty alternatives for each of 600 tokens one has about 700 kB."""
MOST_WAIT = 120.0
"""Seconds. An endpoint that asks for more patience is not waited for."""
CONNECT_SECONDS = 10.0
ALTERNATIVES = 20
"""Tokens whose log-probabilities are asked for: the most that the protocols give."""
WORDS = 300
"""Characters of what a server says that an error repeats."""


class Unanswered(Exception):
    """No reply to this question; whether the endpoint or the question is at fault is not known."""

    def __init__(self, reason: str, words: str = "", status: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        """In our words, and without any of the question's."""
        self.words = words
        """The server's."""
        self.status = status


class Refused(Unanswered):
    """The endpoint will not answer this request, however often it is sent."""


class Silent(Unanswered):
    """The endpoint gave no reply, again and again."""


class OverBudget(Exception):
    """The day's budget is used up."""


class Token(NamedTuple):
    """A token of a reply, its log-probability, and what else it might have been."""

    text: str
    log_probability: float
    alternatives: tuple[tuple[str, float], ...]


class Reply(NamedTuple):
    """What came back."""

    text: str
    tokens: tuple[Token, ...]
    """Empty where the endpoint gives no log-probabilities."""
    cut: bool
    """Whether it ended because it may not be longer, or read only a part of the question."""
    prompt_tokens: int
    answer_tokens: int


class Asked(NamedTuple):
    """One question for the endpoint."""

    system: str
    user: str
    schema: dict[str, Any] | None
    grammar: str
    most_tokens: int
    temperature: float
    seed: int


# --- the protocols' documents, as far as they are read -------------------------------------


class _Alternative(Struct):
    token: str
    logprob: float


class _Token(_Alternative):
    top_logprobs: list[_Alternative] = []


class _LogProbabilities(Struct):
    content: list[_Token] | None = None


class _Message(Struct):
    content: str | None = None


class _Choice(Struct):
    message: _Message
    finish_reason: str | None = None
    logprobs: _LogProbabilities | None = None


class _Usage(Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


class _Chat(Struct):
    message: _Message
    done: bool
    done_reason: str | None = None
    prompt_eval_count: int = 0
    eval_count: int = 0
    logprobs: list[_Token] | None = None


class _NoProtocol(Exception):
    """A reply that is not the protocol's."""


class _TooSlow(Exception):
    """The whole reply was not there in time."""


class Endpoint:
    """Asks. Safe to call from any thread."""

    def __init__(self, settings: JudgeSettings, ledger: Ledger) -> None:
        """Raises Misconfigured where the address is none; connects to nothing yet."""
        self._settings = settings
        self._ledger = ledger
        self._given_up: BaseException | None = None
        self._ended = threading.Event()
        path = "/api/chat" if settings.protocol == "ollama" else "/chat/completions"
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if settings.api_key:
            headers["Authorization"] = f"Bearer {settings.api_key}"
        seconds = settings.timeout_seconds
        try:
            self._url = httpx.URL(settings.url.rstrip("/") + path)
            # trust_env=False: a proxy from the environment must not see what people said.
            self._client = httpx.Client(
                headers=headers,
                timeout=httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS)),
                limits=httpx.Limits(max_connections=settings.concurrency),
                trust_env=False,
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise Misconfigured(
                "panel.judge.url or panel.judge.api_key cannot be used in a request.",
                hint="Write an address such as http://localhost:11434, and a key in ASCII.",
            ) from error

    def give_up(self, because: BaseException) -> None:
        """Ends every wait: whoever asks from now on is told the first reason."""
        if self._given_up is None:
            self._given_up = because
        self._ended.set()

    def take_heart(self) -> None:
        """Asks again from now on, as at the beginning."""
        self._given_up = None
        self._ended.clear()

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def ask(self, asked: Asked, *, free: bool = False) -> Reply:
        """The reply. A `free` question is counted, whatever the budget says.

        Raises OverBudget, Unavailable where the endpoint asks for patience, Refused, and Silent
        after the last retry.
        """
        settings = self._settings
        body = to_json(self._document(asked))
        pause = settings.retry_seconds
        for attempt in range(settings.retries + 1):
            if self._given_up is not None:
                raise self._given_up
            budget = (0, 0) if free else (settings.requests_per_day, settings.tokens_per_day)
            if not self._ledger.begin(*budget):
                raise OverBudget
            try:
                return self._once(body)
            except _Again as again:
                fault = again
            wait = pause * 2**attempt if fault.wait is None else fault.wait
            if attempt == settings.retries or wait > MOST_WAIT:
                break
            self._ended.wait(wait)
        if fault.busy:
            raise Unavailable(
                f"The judge's endpoint has no time: {fault.reason}.",
                hint="What is not assessed yet will be; panel.judge.concurrency asks less at once.",
            )
        raise Silent(fault.reason)

    def _once(self, body: bytes) -> Reply:
        """One request. Raises _Again and Refused; what it cost is counted, whatever happens."""
        started = time.monotonic()
        result, prompt_tokens, answer_tokens = "failed", 0, 0
        try:
            status, headers, content = self._post(body)
            if status == 200:
                reply = self._read(content)
                prompt_tokens, answer_tokens = _tokens_of(body, reply)
                result = "answered"
                return reply
            if status in (429, 503):
                result = "busy"
                raise _Again(f"HTTP {status}", wait=_retry_after(headers), busy=True)
            if status >= 500 or status == 408:
                raise _Again(f"HTTP {status}")
            result = "refused"
            raise Refused(f"HTTP {status}", self._words(content), status)
        except (httpx.TimeoutException, _TooSlow) as error:
            result = "timed_out"
            raise _Again(f"no reply in {self._settings.timeout_seconds:g} s") from error
        except httpx.RequestError as error:
            # Only the kind: what httpx says may hold the address with all that is in it.
            raise _Again(f"the connection broke ({type(error).__name__})") from error
        except _NoProtocol as error:
            raise _Again(str(error)) from error
        finally:
            seconds = time.monotonic() - started
            self._ledger.end(result, prompt_tokens, answer_tokens, seconds)

    def _post(self, body: bytes) -> tuple[int, httpx.Headers, bytes]:
        """Status, headers and body. The client's timeouts are for each read, this one for all."""
        deadline = time.monotonic() + self._settings.timeout_seconds
        content = bytearray()
        with self._client.stream("POST", self._url, content=body) as response:
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > MOST_BYTES:
                    raise _NoProtocol(f"a reply of more than {MOST_BYTES:,} bytes")
                if time.monotonic() > deadline:
                    raise _TooSlow
            return response.status_code, response.headers, bytes(content)

    def _words(self, content: bytes) -> str:
        """What the server said of a refusal, without our key."""
        words = content.decode("utf-8", "replace")
        try:
            found = msgspec.json.decode(content)
            error = found["error"]
            words = str(error["message"] if isinstance(error, dict) else error)
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError, RecursionError):
            pass  # then as it stands
        if self._settings.api_key:
            words = words.replace(self._settings.api_key, "[secret]")
        return " ".join(words.split())[:WORDS]

    # --- what the protocols differ in -----------------------------------------------------

    def _document(self, asked: Asked) -> dict[str, Any]:
        settings = self._settings
        document: dict[str, Any] = {
            "model": settings.model,
            "messages": [
                {"role": "system", "content": asked.system},
                {"role": "user", "content": asked.user},
            ],
            "stream": False,
        }
        if settings.log_probabilities:
            document |= {"logprobs": True, "top_logprobs": ALTERNATIVES}
        if settings.protocol == "ollama":
            document |= self._of_ollama(asked)
        else:
            document |= self._of_openai(asked)
        return _merged(document, settings.extra)

    def _of_openai(self, asked: Asked) -> dict[str, Any]:
        bound: dict[str, Any] = {}
        if self._settings.output == "grammar":
            bound["grammar"] = asked.grammar
        elif self._settings.output == "schema" and asked.schema is not None:
            named = {"name": "judgement", "strict": True, "schema": asked.schema}
            bound["response_format"] = {"type": "json_schema", "json_schema": named}
        return bound | {
            "temperature": asked.temperature,
            "seed": asked.seed,
            "max_tokens": asked.most_tokens,
        }

    def _of_ollama(self, asked: Asked) -> dict[str, Any]:
        bound: dict[str, Any] = {}
        if self._settings.output == "schema" and asked.schema is not None:
            bound["format"] = asked.schema
        return bound | {
            "think": False,
            "truncate": False,  # rather an error than half a question
            "options": {
                "temperature": asked.temperature,
                "seed": asked.seed,
                "num_predict": asked.most_tokens,
                # The same for every question: another one would load the model anew.
                "num_ctx": self._context,
            },
        }

    @property
    def _context(self) -> int:
        """Tokens that Ollama makes room for: three full texts, the rubric, and the answer, at two
        characters a token. Its own default silently drops the beginning of a longer question.
        """
        return -(-((3 * self._settings.most_characters + 5_000) // 2 + 1_000) // 1024) * 1024

    def _read(self, content: bytes) -> Reply:
        try:
            if self._settings.protocol == "ollama":
                return self._read_chat(msgspec.json.decode(content, type=_Chat))
            return _read_completion(msgspec.json.decode(content, type=_Completion))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise _NoProtocol("a reply that is no chat completion") from error

    def _read_chat(self, chat: _Chat) -> Reply:
        if not chat.done:
            raise _NoProtocol("a reply that is not done")
        return Reply(
            text=chat.message.content or "",
            tokens=_tokens(chat.logprobs),
            cut=chat.done_reason == "length" or chat.prompt_eval_count >= self._context,
            prompt_tokens=chat.prompt_eval_count,
            answer_tokens=chat.eval_count,
        )


class _Again(Exception):
    """A request that may be sent again."""

    def __init__(self, reason: str, *, wait: float | None = None, busy: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait = wait
        self.busy = busy


def _read_completion(completion: _Completion) -> Reply:
    if not completion.choices:
        raise _NoProtocol("a reply without a choice")
    choice = completion.choices[0]
    usage = completion.usage or _Usage()
    return Reply(
        text=choice.message.content or "",
        tokens=_tokens(choice.logprobs.content if choice.logprobs else None),
        cut=choice.finish_reason == "length",
        prompt_tokens=usage.prompt_tokens,
        answer_tokens=usage.completion_tokens,
    )


def _tokens_of(body: bytes, reply: Reply) -> tuple[int, int]:
    """What it cost; where the endpoint does not tell, four bytes are counted as a token, so that
    a budget in tokens is not without end.
    """
    if reply.prompt_tokens or reply.answer_tokens:
        return reply.prompt_tokens, reply.answer_tokens
    return len(body) // 4, len(reply.text.encode("utf-8", "replace")) // 4


def _tokens(given: list[_Token] | None) -> tuple[Token, ...]:
    return tuple(
        Token(t.token, t.logprob, tuple((a.token, a.logprob) for a in t.top_logprobs))
        for t in given or ()
    )


def _merged(document: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """The document with further keys; a table is joined to the one that is there."""
    merged = dict(document)
    for key, value in extra.items():
        here = merged.get(key)
        both = isinstance(here, dict) and isinstance(value, dict)
        merged[key] = _merged(here, value) if both else value  # type: ignore[arg-type]
    return merged


def _retry_after(headers: httpx.Headers) -> float | None:
    """Seconds that Retry-After asks for, as a number or as a date (RFC 9110, 10.2.3)."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
        return max(0.0, (moment - now()).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None

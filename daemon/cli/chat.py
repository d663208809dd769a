"""The verb that talks to the model: chat.

With the running daemon where it answers people (`serving.enabled`), else with a child process for
each turn. Nothing is kept unless --record asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple, Protocol

import click
import httpx
import msgspec
import typer

from daemon import practice
from daemon.chat.envelope import Kept
from daemon.cli.answers import Limit, UseRelease, asked, who_answers
from daemon.cli.app import OfLine, app, settings
from daemon.service import Address, running_daemon
from daemon.settings import Settings
from daemon.wiring import Parts, wire
from store.errors import Misconfigured, Rejected, Unavailable
from store.records import MAIN, Consent, Experience, Message, new_id, now
from trainer.questions import Question

KEY_VARIABLE = "BHAVANA_API_KEY"
CONNECT_SECONDS = 5
EVENT, LAST = "data: ", "data: [DONE]"


class Said(NamedTuple):
    """An answer, printed already."""

    text: str
    whole: bool = True
    """Not cut by the length limit."""


class Speaker(Protocol):
    """Somebody to talk to."""

    name: str

    def reply(self, history: Sequence[Message]) -> Said:
        """What it says to that; and it is kept, where that was asked for."""


@app.command()
def chat(
    prompt: Annotated[str | None, typer.Argument(help="One message; else a conversation.")] = None,
    base: Annotated[bool, typer.Option("--base", help="Let the base answer beside it.")] = False,
    release: UseRelease = None,
    line: OfLine = MAIN,
    max_new_tokens: Limit = 200,
    record: Annotated[
        bool, typer.Option("--record", help="Keep what is said as experiences; needs the daemon.")
    ] = False,
    consent_training: Annotated[
        bool,
        typer.Option("--consent-training", help="Ask whether what is kept may be learned from."),
    ] = False,
    policy_text: Annotated[
        str | None, typer.Option(help="With --consent-training: the version of the text shown.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(envvar=KEY_VARIABLE, help="API key with the scope chat, and ingest."),
    ] = None,
) -> None:
    """Talk to the current release; with --base, to the base and the release side by side."""
    configured = settings()
    configured.of_line(line)
    address = running_daemon(configured.data)
    if record and (address is None or not key):
        raise Misconfigured(
            "What is said is kept by a running daemon, for the source of a key.",
            hint="Start `bhavana serve`, make a key with `bhavana keys create --scope chat --scope "
            f"ingest --source me` and set {KEY_VARIABLE}.",
        )
    conversation = new_id("chat")
    consent = _consent(record, consent_training, policy_text, conversation)
    speakers: list[Speaker] = []
    if configured.serving.enabled and address and key and not base and release is None:
        keeps = consent if record else None
        speakers.append(AtDaemon(address, key, line, conversation, max_new_tokens, keeps))
    else:
        speakers += _in_children(configured, base, release, line, max_new_tokens)
        if record and address and key:
            speakers = [Recorded(s, address, key, conversation, consent) for s in speakers]
    _converse(speakers, prompt)


def _converse(speakers: Sequence[Speaker], prompt: str | None) -> None:
    histories: list[list[Message]] = [[] for _ in speakers]
    if prompt is None:
        names = " and ".join(speaker.name for speaker in speakers)
        click.echo(f"Talking to {names}. An empty line ends it.", err=True)
    while text := prompt or click.prompt("you", default="", show_default=False).strip():
        for speaker, history in zip(speakers, histories, strict=True):
            history.append(Message(role="user", content=text))
            said = speaker.reply(history).text
            history.append(Message(role="assistant", content=said or "…"))
        if prompt is not None:
            break


def _consent(record: bool, ask: bool, policy: str | None, conversation: str) -> Consent:
    """What the person agrees to, asked here and now. Raises Rejected."""
    if ask and not record:
        raise Rejected("Only what is kept can be learned from: --consent-training needs --record.")
    if policy is not None and not ask:
        raise Rejected("--policy-text is what one agrees to: it needs --consent-training.")
    if record:
        click.echo(
            "What is said here is kept: both sides, after redaction, as the conversation "
            f"{conversation}. `bhavana erase --conversation {conversation}` takes it away.",
            err=True,
        )
    agrees = ask and typer.confirm(
        "May a model learn from it, too?", default=False, err=True, show_default=True
    )
    return Consent(training=agrees, policy=policy if agrees else None)


# --- who answers --------------------------------------------------------------------------


def _in_children(
    configured: Settings, base: bool, release: str | None, line: str, most: int
) -> list[Speaker]:
    parts = wire(configured)
    who = [who_answers(parts, False, release, line)]
    if base and who[0][1] is not None:
        who.insert(0, who_answers(parts, True, None))
    return [InChild(parts, name, adapter, most) for name, adapter in who]


class InChild:
    """A model that is loaded anew for each answer."""

    def __init__(self, parts: Parts, name: str, adapter: str | None, most: int) -> None:
        self.name = name
        self._parts = parts
        self._adapter = adapter
        self._most = most

    def reply(self, history: Sequence[Message]) -> Said:
        """All at once, when it is done."""
        question = Question(id="chat", messages=tuple(history))
        [answer] = asked(self._parts, [question], self._adapter, self._most, quiet=True)
        click.echo(f"{self.name}: {answer.response}\n")
        return Said(answer.response, answer.finished)


class Recorded:
    """The same, with each exchange posted to the daemon."""

    def __init__(
        self, speaker: Speaker, address: Address, key: str, conversation: str, consent: Consent
    ) -> None:
        self.name = speaker.name
        self._speaker = speaker
        self._address = address
        self._key = key
        self._conversation = conversation
        self._consent = consent

    def reply(self, history: Sequence[Message]) -> Said:
        """Raises Unavailable where the daemon does not take it."""
        said = self._speaker.reply(history)
        if said.text:
            exchange = Experience(
                id=new_id("exp"),
                occurred_at=now(),
                source="chat",
                conversation_id=self._conversation,
                messages=tuple(history),
                response=said.text,
                model=self.name,
                consent=self._consent if said.whole else Consent(),
                metadata={"finished": said.whole},
            )
            _post(self._address, self._key, exchange)
        return said


def _post(address: Address, key: str, exchange: Experience) -> None:
    """For the source of the key, whichever that is."""
    body = msgspec.to_builtins(exchange)
    del body["source"]
    counts = practice.post(address.url, key, [body])
    if counts.get("recorded") != 1:
        raise Rejected(f"The daemon did not keep it: {counts}.")
    _say(exchange.id, Kept(recorded=True, training=exchange.consent.training))


class AtDaemon:
    """The release that the running daemon answers with, word by word."""

    def __init__(
        self,
        address: Address,
        key: str,
        line: str,
        conversation: str,
        most: int,
        consent: Consent | None,
    ) -> None:
        """`consent`: None where nothing is to be kept."""
        self.name = f"the daemon at {address.url}"
        self._url = f"{address.url}/v1/chat/completions"
        self._headers = {"Authorization": f"Bearer {key}", "Bhavana-Conversation": conversation}
        if consent is not None and consent.training:
            policy = f"; policy={consent.policy}" if consent.policy else ""
            self._headers["Bhavana-Consent"] = f"training{policy}"
        self._request = {
            "model": line,
            "max_tokens": most,
            "stream": True,
            "store": consent is not None,
        }

    def reply(self, history: Sequence[Message]) -> Said:
        """Raises Rejected for what it refuses, and Unavailable where it does not answer."""
        body = self._request | {"messages": msgspec.to_builtins(history)}
        said = ""
        for event in self._events(body):
            for choice in event["choices"]:
                text = choice["delta"].get("content") or ""
                if text and not said:
                    click.echo(f"{event['model']}: ", nl=False)
                click.echo(text, nl=False)
                said += text
            if "bhavana" in event:
                click.echo("\n")
                if self._request["store"]:
                    _say(event["id"], msgspec.convert(event["bhavana"], Kept))
        return Said(said)

    def _events(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        # trust_env=False: a proxy from the environment must not see what people say.
        timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)
        try:
            with (
                httpx.Client(trust_env=False, timeout=timeout) as client,
                client.stream("POST", self._url, json=body, headers=self._headers) as answer,
            ):
                if answer.status_code != httpx.codes.OK:
                    raise _refused(answer.status_code, answer.read())
                for line in answer.iter_lines():
                    if line.startswith(EVENT) and line != LAST:
                        event = msgspec.json.decode(line.removeprefix(EVENT))
                        if "error" in event:
                            raise Unavailable(event["error"]["message"])
                        yield event
        except httpx.TransportError as error:
            raise Unavailable(f"{self._url} does not answer: {error}") from error


def _refused(status: int, body: bytes) -> Rejected | Unavailable:
    message = msgspec.json.decode(body)["error"]["message"]
    busy = (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)
    return Unavailable(message) if status in busy else Rejected(message)


def _say(name: str, kept: Kept) -> None:
    if not kept.recorded:
        click.echo("(not kept: serving.record is off, or it could not be)", err=True)
    else:
        learned = "and may be learned from" if kept.training else "and is not learned from"
        click.echo(f"(kept as {name}, {learned})", err=True)

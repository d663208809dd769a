"""Verbs on the policy: show, try, set, history. Their options are the values of the noun."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from msgspec.structs import fields, replace

from converters.selection import Selection, select
from converters.tryout import Both, Example, Moved, Tryout, try_policy
from daemon.cli.app import AsJson, Reviewer, app, config_file, login, settings, show
from daemon.policy import Done, origins, set_policy
from daemon.settings import value
from daemon.wiring import asked_now, asked_of, at_work, open_store
from store import experiences, policies
from store.errors import Rejected
from store.events import Store
from store.policies import Recorded, Values
from store.records import Experience, Noun, Policy, now

HELP = "What may become training data: what is in force, what another policy would change, set it."
SINGULAR = {"labels": "label", "categories": "category", "difficulties": "difficulty"}
WORDS = 72
"""So much of an example is shown."""
MOST = 12
"""So many sources, the largest first; as JSON all are told."""
group = typer.Typer(help=HELP, no_args_is_help=True)
app.add_typer(group, name="policy")


class Whole(Noun, frozen=True, kw_only=True):
    """What the whole selection gives under both policies."""

    now: dict[str, int]
    then: dict[str, int]
    """Each a funnel, from `recorded` to `selected`."""
    categories: dict[str, Both]
    """Of the rows that are selected."""


# --- the options, from the noun -----------------------------------------------------------


def _with_values(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with an option for every value of the policy; it gets those that were given."""
    own = inspect.signature(verb, eval_str=True)
    options = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=_annotation(field.name, getattr(Policy(), field.name)),
        )
        for field in fields(Policy)
    ]
    rest = [p for name, p in own.parameters.items() if name != "changes"]

    def called(**given: Any) -> None:
        texts = {name: given.pop(name) for name in Policy.__struct_fields__}
        verb(changes=_values(texts), **given)

    signature = inspect.Signature([*rest, *options])
    called.__signature__ = signature  # type: ignore[attr-defined]
    called.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    called.__doc__, called.__name__ = verb.__doc__, verb.__name__
    return called


def _annotation(name: str, default: Any) -> Any:
    flag = f"--{SINGULAR.get(name, name).replace('_', '-')}"
    if isinstance(default, dict):
        told = "NAME=WEIGHT; again for each. Those given replace all."
        return Annotated[list[str] | None, typer.Option(flag, help=told, metavar="NAME=WEIGHT")]
    if isinstance(default, tuple):
        told = "Again for each. Those given replace all."
        return Annotated[list[str] | None, typer.Option(flag, help=told, metavar="NAME")]
    told = f"policy.{name}; by default {default}."
    kind = "NAME" if isinstance(default, str) else "NUMBER"
    return Annotated[str | None, typer.Option(flag, help=told, metavar=kind)]


def _values(texts: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, as a file would say them: the loader says what is wrong."""
    given: dict[str, Any] = {}
    for name, text in texts.items():
        if isinstance(getattr(Policy(), name), dict) and text:
            given[name] = dict(_weight(name, one) for one in text)
        elif isinstance(text, str):
            given[name] = value(text)
        elif text:
            given[name] = list(text)
    return given


def _weight(name: str, text: str) -> tuple[str, Any]:
    of, equals, weight = text.rpartition("=")
    if not equals:
        raise Rejected(f"policy.{name}: {text!r} names no weight.", hint="Write NAME=WEIGHT.")
    return of, value(weight)


# --- the verbs ----------------------------------------------------------------------------


@group.command(name="show")
def show_policy(as_json: AsJson = False) -> None:
    """Show the policy in force, where each value comes from, and what was recorded last."""
    configured = settings()
    origin = origins(config_file(), os.environ)
    with open_store(configured) as store:
        recorded = policies.newest(store)
    policy = configured.policy
    told = {
        "policy": {
            name: {"value": getattr(policy, name), "origin": origin[name]}
            for name in Policy.__struct_fields__
        },
        "file": config_file() and str(config_file()),
        "recorded": recorded,
    }

    def text() -> str:
        lines = [f"file      {config_file() or 'none'}", f"recorded  {_last(recorded, policy)}", ""]
        lines += [
            f"{name:22}{_shown(getattr(policy, name)):28}{origin[name]}"
            for name in Policy.__struct_fields__
        ]
        return "\n".join(lines)

    show(told, as_json, text)


@group.command(name="try")
@_with_values
def try_values(
    changes: dict[str, Any],
    whole: Annotated[
        bool,
        typer.Option("--whole", help="Select for both policies, words, caps and all: exact, slow."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what other values would change. Nothing is changed: `bhavana policy set` does that.

    Everything recorded is replayed by the steps that need no words. Their rows are counted
    exactly; what words and caps would drop is told by their share of the last dataset, or exactly
    with --whole, but for the search for paraphrases of gate items.
    """
    configured, tried = settings(), settings(changes).policy
    with open_store(configured) as store:
        house = at_work(configured, store)
        found = try_policy(store, asked_now(house, store), tried)
        exact = None
        if whole:
            asked = asked_of(house, store, as_of=found.as_of, moment=now())
            exact = _whole(select(store, asked), select(store, replace(asked, policy=tried)))
        lines = [] if as_json else _told(store, found, exact, tried)
    told = msgspec.to_builtins(found) | ({} if exact is None else {"whole": exact})
    show(told, as_json, lambda: "\n".join(lines))


@group.command(name="set")
@_with_values
def set_values(
    changes: dict[str, Any],
    reason: Annotated[str, typer.Option(help="Why; kept in the log.")],
    reviewer: Reviewer = None,
    as_json: AsJson = False,
) -> None:
    """Set values of the policy: in the configuration file, for good, and in the log.

    The file is the one in use, or a new ~/.config/bhavana/bhavana.toml; all else in it stays. A
    running daemon is told to read it, and the next cycle selects by it. Try first.
    """
    if not changes or not reason.strip():
        raise Rejected(
            "A change needs a value and a reason.", hint="`bhavana policy set --help` names them."
        )
    file = config_file() or _new_file()
    done = set_policy(file, os.environ, changes, reason=reason, actor=f"cli:{reviewer or login()}")
    show(done, as_json, lambda: _done(done))


@group.command()
def history(as_json: AsJson = False) -> None:
    """Show every change of the policy: when, by whom, why, and what it changed."""
    with open_store(settings()) as store:
        found = policies.changes(store)
    show(
        found,
        as_json,
        lambda: "\n".join(map(_event, found)) or "None is recorded yet; the first cycle does so.",
    )


# --- for people ---------------------------------------------------------------------------


def _new_file() -> Path:
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return home / "bhavana" / "bhavana.toml"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={weight:g}" for name, weight in value.items()) or "none"
    return ", ".join(value) if isinstance(value, list | tuple) else str(value)


def _differences(changed: Mapping[str, Values]) -> list[str]:
    return [f"  {n:22}{_shown(v.before)} -> {_shown(v.after)}" for n, v in changed.items()]


def _last(recorded: Recorded | None, policy: Policy) -> str:
    if recorded is None:
        return "none yet; the first cycle records the policy"
    other = "" if recorded.policy == policy else "; another one: the next cycle records this"
    why = recorded.reason or "no reason given"
    return f"{recorded.recorded_at:%Y-%m-%d %H:%M} UTC by {recorded.actor}: {why}{other}"


def _event(one: Recorded) -> str:
    why = one.reason or "no reason given"
    first = f"{one.recorded_at:%Y-%m-%d %H:%M} UTC  {one.actor}: {why}"
    return "\n".join([first, *(_differences(one.changed) or ["  the defaults"])])


def _done(done: Done) -> str:
    lines = [f"{done.file}:", *(_differences(done.changed) or ["  nothing changes"])]
    lines += [] if done.recorded else ["The log had this policy already."]
    if done.told:
        lines.append(f"The daemon (pid {done.daemon}) was told to read its configuration.")
    elif done.daemon is not None:
        lines.append(
            f"The daemon (pid {done.daemon}) belongs to another user: tell it to read its "
            "configuration, as with `systemctl reload bhavana`."
        )
    return "\n".join(lines)


def _whole(now: Selection, then: Selection) -> Whole:
    before, after = now.count("category"), then.count("category")
    return Whole(
        now=now.funnel,
        then=then.funnel,
        categories={
            name: Both(now=before.get(name, 0), then=after.get(name, 0))
            for name in sorted(before.keys() | after.keys())
        },
    )


def _told(store: Store, found: Tryout, whole: Whole | None, tried: Policy) -> list[str]:
    lines = ["policy", *(_differences(found.changed) or ["  nothing differs"]), ""]
    lines += [
        f"{found.recorded} assessed",
        f"kept by the steps that need no words: {found.kept.now} now, {found.kept.then} then",
        *_moved(store, "gained", "kept out now by", found.gained),
        *_moved(store, "lost", "dropped then by", found.lost),
    ]
    kinds = {"category": found.category, "difficulty": found.difficulty, "source": found.source}
    for kind, counts in kinds.items():
        lines += ["", f"{kind:24}{'now':>9}{'then':>9}"]
        largest = sorted(counts.items(), key=lambda item: -max(item[1].now, item[1].then))
        lines += [f"  {name or 'not said':22}{b.now:>9}{b.then:>9}" for name, b in largest[:MOST]]
        lines += [f"  and {len(counts) - MOST} more: --json"] if len(counts) > MOST else []
    lines += ["", *(_projected(found, tried) if whole is None else _exact(whole))]
    return lines


def _moved(store: Store, what: str, by: str, moved: Moved) -> list[str]:
    steps = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in moved.steps.items())
    lines = [f"{what:8}{moved.count:>9}{f'  {by} {steps}' if steps else ''}"]
    bodies = experiences.bodies_at(store, [e.position for e in moved.examples])
    words = {
        position: msgspec.json.decode(body, type=Experience).response
        for position, body in bodies.items()
    }
    return lines + [line for e in moved.examples for line in _example(e, words.get(e.position))]


def _example(e: Example, response: str | None) -> list[str]:
    said = " ".join((response or "").split())
    label = "none" if e.label is None else e.label
    judged = f"harm {_number(e.actual_harm)}, weighted {_number(e.weighted)}, {label}"
    return [
        f"  {e.id}  from {e.source}, {e.category or 'no category'}; {judged}",
        f"    {said if len(said) <= WORDS else said[: WORDS - 1] + '…'}",
    ]


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def _projected(found: Tryout, tried: Policy) -> list[str]:
    lines = []
    if found.not_replayed:
        lines.append(
            f"Not replayed, for it needs words: {', '.join(found.not_replayed)} (--whole)."
        )
    projection = found.projection
    if projection is None:
        return [*lines, "How large a dataset would be is not known before the first one: --whole."]
    rows = projection.rows
    lines.append(
        f"A dataset would have about {rows.then} rows, now {rows.now}: words and caps left "
        f"{projection.selected} of {projection.kept} for {projection.dataset}."
    )
    if rows.then < tried.min_examples:
        lines.append(f"That is fewer than policy.min_examples, {tried.min_examples}.")
    return lines


def _exact(whole: Whole) -> list[str]:
    names = [name for name in whole.now if whole.now[name] or whole.then.get(name)]
    lines = [f"{'whole selection':24}{'now':>9}{'then':>9}"]
    lines += [
        f"  {name.replace('_', ' '):22}{whole.now[name]:>9}{whole.then.get(name, 0):>9}"
        for name in names
    ]
    lines += [
        f"  {'of ' + (n or 'no category'):22}{b.now:>9}{b.then:>9}"
        for n, b in whole.categories.items()
    ]
    return lines

"""The part of Go's text/template that chat templates need: range, if, eq, ne, not, fields."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

TAG = re.compile(r"(\s*)\{\{(- )?\s*(.*?)\s*( -)?\}\}(\s*)", re.DOTALL)
WORD = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s"]+')
Node = Any
"""A text, or (kind, expression, nodes, nodes of the else)."""


class BadTemplate(Exception):
    """In Go's words, more or less."""


def parse(text: str) -> list[Node]:
    """The template as nodes. Raises BadTemplate for what is not in the part."""
    pieces: list[str | tuple[str]] = []
    end = 0
    for found in TAG.finditer(text):
        before, trims_left, action, trims_right, after = found.groups()
        pieces += [text[end : found.start()] + ("" if trims_left else before), (action,)]
        end = found.end() if trims_right else found.end() - len(after)
    pieces.append(text[end:])
    nodes, rest = _nodes(pieces)
    if rest:
        raise BadTemplate("unexpected {{end}}")
    return nodes


def render(nodes: Sequence[Node], data: Mapping[str, Any]) -> str:
    """What the template makes of the data."""
    said = ""
    for node in nodes:
        if isinstance(node, str):
            said += node
            continue
        kind, expression, then, otherwise = node
        value = _value(expression, data)
        if kind == "say":
            said += str(value)
        elif kind == "range":
            said += "".join(render(then, item) for item in value)
        else:
            said += render(then if value else otherwise, data)
    return said


def _nodes(pieces: list[str | tuple[str]]) -> tuple[list[Node], list[str | tuple[str]]]:
    """The nodes up to an `end` or `else` of their own, and what is left from there."""
    nodes: list[Node] = []
    while pieces:
        piece, *pieces = pieces
        if isinstance(piece, str):
            nodes += [piece] if piece else []
            continue
        (action,) = piece
        word = action.split(" ", 1)[0]
        if word in ("end", "else"):
            return nodes, [piece, *pieces]
        if word in ("if", "range"):
            node, pieces = _block(word, action.removeprefix(word), pieces)
            nodes.append(node)
        else:
            nodes.append(("say", _expression(action), [], []))
    return nodes, []


def _block(
    kind: str, expression: str, pieces: list[str | tuple[str]]
) -> tuple[Node, list[str | tuple[str]]]:
    then, rest = _nodes(pieces)
    otherwise: list[Node] = []
    if not rest:
        raise BadTemplate("unexpected EOF")
    (action,) = rest.pop(0)
    if action.startswith("else if"):
        inner, rest = _block("if", action.removeprefix("else if"), rest)
        return (kind, _expression(expression), then, [inner]), rest
    if action == "else":
        otherwise, rest = _nodes(rest)
        if not rest:
            raise BadTemplate("unexpected EOF")
        rest.pop(0)
    return (kind, _expression(expression), then, otherwise), rest


def _expression(text: str) -> list[str]:
    words = WORD.findall(text)
    known = all(w.startswith((".", '"')) or w in ("eq", "ne", "not") for w in words)
    if not words or not known:
        raise BadTemplate(f"function {text.strip()!r} not defined")
    return words


def _value(words: Sequence[str], data: Mapping[str, Any]) -> Any:
    first, *rest = words
    arguments = [w[1:-1] if w.startswith('"') else data.get(w[1:], "") for w in rest]
    if first == "eq":
        return arguments[0] == arguments[1]
    if first == "ne":
        return arguments[0] != arguments[1]
    if first == "not":
        return not arguments[0]
    return data.get(first[1:], "")

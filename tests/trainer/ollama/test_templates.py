"""Templates in Go's language make the prompts that the families' own templates make."""

from __future__ import annotations

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tests.ollama_stand_in.golang import BadTemplate, parse, render
from trainer import templates
from trainer.targets.ollama.settings import OllamaSettings
from trainer.targets.ollama.templates import GO

ENDS = {name: "</s>" for name in GO if name == "zephyr" or name.startswith("mistral")}
SYSTEM = {"role": "system", "content": "Be brief."}
TURNS = [
    {"role": "user", "content": "Hello,\nyou."},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": "What is two  and two?"},
]


def prompt(family: str, messages: list[dict[str, str]]) -> str:
    """As the family's own template has it, without the beginning that tokenizers put there."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(templates.untagged(templates.TAGGED[family]))
    return template.render(
        messages=messages, add_generation_prompt=True, bos_token="", eos_token=ENDS.get(family, "")
    )


def rendered(family: str, messages: list[dict[str, str]]) -> str:
    """As Ollama has it."""
    fields = [{"Role": m["role"], "Content": m["content"]} for m in messages]
    system = "".join(m["content"] for m in messages if m["role"] == "system")
    return render(parse(GO[family].text), {"Messages": fields, "System": system})


@pytest.mark.parametrize("family", sorted(GO))
def test_both_languages_make_the_same_prompt(family: str) -> None:
    """Of one question, and of a conversation."""
    for messages in (TURNS[:1], TURNS):
        assert rendered(family, messages) == prompt(family, messages)


@pytest.mark.parametrize("family", ["smollm2", "chatml", "zephyr", "llama-3"])
def test_and_with_a_system_message(family: str) -> None:
    """Of the families that have a place for one."""
    assert rendered(family, [SYSTEM, *TURNS]) == prompt(family, [SYSTEM, *TURNS])


@pytest.mark.parametrize("family", sorted(GO))
def test_an_answer_ends_where_the_template_ends_it(family: str) -> None:
    """The stop is what follows an earlier answer in a conversation."""
    assert f"Yes?{GO[family].stop[0]}" in rendered(family, TURNS)
    settings = OllamaSettings(template=family)
    assert settings.all_parameters["stop"] == list(GO[family].stop)


def test_a_template_of_ones_own() -> None:
    """Is taken as it stands, with stops of its own."""
    settings = OllamaSettings(template="{{ range .Messages }}{{ .Content }}{{ end }}", stop=("#",))
    assert settings.template_text.startswith("{{ range")
    assert settings.all_parameters["stop"] == ["#"]


@pytest.mark.parametrize("text", ["{{ if .System }}", "{{ end }}", "{{ nonsense }}"])
def test_the_stand_in_refuses_what_is_no_template(text: str) -> None:
    """As Go does."""
    with pytest.raises(BadTemplate):
        parse(text)


def test_the_stand_in_trims_blanks_as_go_does() -> None:
    """Where a tag has a dash."""
    said = render(parse("a \n{{- if .Yes }} b {{- else }}c{{ end -}}\n d"), {"Yes": True})
    assert said == "a bd"

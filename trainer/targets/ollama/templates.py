"""Chat templates in Go's language, which Ollama speaks: the families of trainer/templates.py.

An explicit template, because a GGUF file without one gets raw prompts, and because a server may
otherwise guess another one after an update. A beginning-of-text token is left to the tokenizer,
which puts it there by itself. A test holds the two languages together.
"""

from __future__ import annotations

from typing import NamedTuple


class Template(NamedTuple):
    """How a conversation becomes a prompt, and what ends the answer."""

    text: str
    stop: tuple[str, ...]


_CHATML = (
    "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}"
    "<|im_start|>assistant\n"
)

GO: dict[str, Template] = {
    "smollm2": Template(
        "{{ if not .System }}<|im_start|>system\nYou are a helpful AI assistant named SmolLM, "
        "trained by Hugging Face<|im_end|>\n{{ end }}" + _CHATML,
        ("<|im_end|>",),
    ),
    "chatml": Template(_CHATML, ("<|im_end|>",)),
    "zephyr": Template(
        "{{ range .Messages }}<|{{ .Role }}|>\n{{ .Content }}</s>\n{{ end }}<|assistant|>\n",
        ("</s>",),
    ),
    "llama-3": Template(
        "{{ range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>\n\n"
        "{{ .Content }}<|eot_id|>{{ end }}<|start_header_id|>assistant<|end_header_id|>\n\n",
        ("<|eot_id|>",),
    ),
    "gemma": Template(
        '{{ range .Messages }}<start_of_turn>{{ if eq .Role "assistant" }}model{{ else }}'
        "{{ .Role }}{{ end }}\n{{ .Content }}<end_of_turn>\n{{ end }}<start_of_turn>model\n",
        ("<end_of_turn>",),
    ),
    "mistral-v0.1": Template(
        '{{ range .Messages }}{{ if eq .Role "user" }}[INST] {{ .Content }} [/INST]'
        '{{ else if eq .Role "assistant" }}{{ .Content }}</s> {{ end }}{{ end }}',
        ("</s>",),
    ),
    "mistral-v0.3": Template(
        '{{ range .Messages }}{{ if eq .Role "user" }}[INST] {{ .Content }}[/INST]'
        '{{ else if eq .Role "assistant" }} {{ .Content }}</s>{{ end }}{{ end }}',
        ("</s>",),
    ),
}
"""Of Mistral without system messages, whose place differs from one make to the next."""

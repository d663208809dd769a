"""The section [serving], and what doctor says of it. No model is needed."""

from __future__ import annotations

import json

import pytest

from daemon.doctor import examine
from daemon.settings import Settings, load
from store import keys
from store.errors import Misconfigured, Rejected
from trainer import serving
from trainer.base import Base, locate

ON = {"BHAVANA_SERVING__ENABLED": "true"}


def _look(data, **environment):
    settings = load(None, {"BHAVANA_DATA_DIR": str(data)} | environment)
    [check] = [check for check in examine(settings, None) if check.name == "serving"]
    return check


def test_nobody_is_answered_and_nothing_kept_unless_it_is_set_up():
    """The defaults are no."""
    settings = Settings().serving
    assert (settings.enabled, settings.record) == (False, False)
    assert settings.training_consent == "never"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"BHAVANA_SERVING__CONTEXT": "1000", "BHAVANA_SERVING__MOST_TOKENS": "1000"}, "less than"),
        ({"BHAVANA_SERVING__SLOTS": "0"}, "serving.slots"),
        ({"BHAVANA_SERVING__TRAINING_CONSENT": "always"}, "serving.training_consent"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(given, said):
    """With the key at fault."""
    with pytest.raises(Misconfigured, match=said):
        load(None, ON | given)


def test_without_llama_it_says_what_to_install(monkeypatch):
    """Where it was switched on; where not, nobody needs it."""
    monkeypatch.setattr(serving, "PACKAGE", "no_such_package")
    with pytest.raises(Misconfigured, match=r"bhavana\[llama\]"):
        load(None, ON)
    assert load(None, {}).serving.enabled is False


def test_doctor_tells_whether_it_could_and_with_what(data, vouched):
    """Off or on; and with which file."""
    assert _look(data).said.startswith("off; llama.cpp: xllamacpp ")
    on = _look(data, **ON)
    assert on.state == "ok"
    assert on.said.startswith("SmolLM2-135M-Instruct.Q4_1.gguf by llama.cpp")


def test_doctor_says_what_is_missing(data, vouched, tmp_path):
    """A file that is not there."""
    check = _look(data, **ON, BHAVANA_SERVING__GGUF=str(tmp_path / "none.gguf"))
    assert check.state == "fail"
    assert "none.gguf" in check.said


def test_a_base_that_is_no_gguf_file_needs_one():
    """What to do is said."""
    base = Base(name="org/model", kind="hub", location="org/model@1", hash="0")
    with pytest.raises(Misconfigured, match=r"serving\.gguf"):
        serving.model_file(base, "")


def test_the_file_that_is_named_must_be_the_base(tmp_path):
    """By its sizes, which the heads of the files tell; its weights may be quantized otherwise."""
    embedded = locate("smollm2-135m")
    folder = tmp_path / "base"
    folder.mkdir()
    config = {
        "model_type": "llama", "num_hidden_layers": 30, "hidden_size": 576,
        "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3,
    }  # fmt: skip
    base = Base(name="folder", kind="folder", location=str(folder), hash="0")
    (folder / "config.json").write_text(json.dumps(config))
    assert serving.model_file(base, embedded.location) == embedded.location
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 24}))
    with pytest.raises(Misconfigured, match="another model"):
        serving.model_file(base, embedded.location)


def test_a_key_for_talking_belongs_to_a_source_and_to_a_server(store):
    """A publishable one would give away the model's time to everybody."""
    with pytest.raises(Rejected, match="belongs to a source"):
        keys.create(store, name="t", scopes=("chat",), actor="t")
    with pytest.raises(Rejected, match="publishable"):
        keys.create(
            store, name="t", scopes=("chat",), source="web", actor="t", publishable=True,
            origins=("https://a.example",),
        )  # fmt: skip

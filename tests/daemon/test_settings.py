"""The configuration: read once, every problem told at once, each with its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.settings import Settings, find_config, load
from store.errors import Misconfigured
from store.records import HARMS, Label, Policy
from trainer.gates import GATES


@pytest.fixture
def written(tmp_path):
    """Writes a configuration file and returns its path."""

    def write(text):
        path = tmp_path / "bhavana.toml"
        path.write_text(text)
        return path

    return write


def _refused(path, environment):
    with pytest.raises(Misconfigured) as caught:
        load(path, environment)
    return caught.value.message


def test_without_file_and_environment_the_defaults_hold():
    """Other people's variables do not matter, nor do those of ours that are no settings."""
    others = {"PATH": "/bin", "BHAVANA_CONFIG": "x", "BHAVANA_API_KEY": "y"}
    settings = load(None, others)
    assert settings == Settings()
    assert settings.policy == Policy()
    assert settings.gates.keys() == GATES.keys()


def test_the_file_overrides_the_defaults(written):
    """Only the keys that the file names change."""
    path = written('data_dir = "/srv"\n[policy]\nmax_harm = 0.2\nlabels = ["excellent"]\n')
    settings = load(path, {})
    assert settings.data == Path("/srv")
    assert settings.store_url == "sqlite:////srv/bhavana.db"
    assert settings.policy == Policy(max_harm=0.2, labels=(Label.EXCELLENT,))


def test_the_environment_overrides_the_file(written):
    """A variable names a key by its path, and its text is read as a TOML value."""
    path = written("[policy]\nmax_harm = 0.2\nmin_weighted = 7.0\n[server]\nport = 1\n")
    settings = load(
        path,
        {
            "BHAVANA_POLICY__MAX_HARM": "0.1",
            "BHAVANA_SERVER__HOST": "localhost",
            "BHAVANA_POLICY__LABELS": '["good"]',
            "BHAVANA_STORE__URL": "sqlite:////x/y.db",
            "BHAVANA_GATES__REFUSAL__LEAST_ITEMS": "5",
        },
    )
    assert (settings.policy.max_harm, settings.policy.min_weighted) == (0.1, 7.0)
    assert (settings.server.host, settings.server.port) == ("localhost", 1)
    assert settings.policy.labels == (Label.GOOD,)
    assert settings.store_url == "sqlite:////x/y.db"
    assert settings.gates["refusal"].least_items == 5
    assert settings.gates["forgetting"] == GATES["forgetting"].rule


@pytest.mark.parametrize("text", ["/srv/2026", "2026", "true", "1.5", "2026-01-01"])
def test_text_from_the_environment_may_look_like_a_number(text):
    """A folder may be called 2026: where the key is text, the variable is text."""
    assert load(None, {"BHAVANA_DATA_DIR": text}).data_dir == text


@pytest.mark.parametrize(
    ("text", "unknown", "near"),
    [
        ("[polcy]\n", "polcy", "policy"),
        ("[policy]\nmax_ham = 0.1\n", "policy.max_ham", "policy.max_harm"),
        ("[gates.refusl]\n", "gates.refusl", "gates.refusal"),
        ("[trainer.recipe]\nlearning_rat = 1\n", "trainer.recipe.learning_rat", "learning_rate"),
        ('[trainer]\ntarget = "locl"\n', "locl", "local"),
    ],
)
def test_an_unknown_key_suggests_the_near_name(written, text, unknown, near):
    """A slip of the pen is told with what was probably meant."""
    message = _refused(written(text), {})
    assert f"{unknown!r}" in message
    assert "did you mean" in message
    assert near in message


def test_an_unknown_variable_suggests_the_near_name():
    """The environment is held to the same names as the file."""
    message = _refused(None, {"BHAVANA_POLICY__MAX_HRM": "0.1"})
    assert "'policy.max_hrm': did you mean 'policy.max_harm'?" in message


def test_a_guard_needs_a_model(written):
    """Told at the start, not by the first cycle."""
    text = '[panel]\nscorers = ["harm", "guard"]\n'
    assert "panel.guard.model" in _refused(written(text), {})
    named = load(written(text), {"BHAVANA_PANEL__GUARD__MODEL": "org/name"})
    assert named.panel.guard.model == "org/name"


def test_a_criterion_of_the_guard_can_be_set_alone(written):
    """The others stay as they are."""
    settings = load(written('[panel.guard.criteria]\nharshness = "It is rude."\n'), {})
    criteria = settings.panel.guard.criteria
    assert criteria["harshness"] == "It is rude."
    assert set(criteria) == set(HARMS)
    assert all(criteria.values())


def test_all_problems_are_reported_together(written):
    """One start tells everything that is wrong, in file and environment, each by its key."""
    path = written(
        "[polcy]\n[policy]\nmax_harm = 2\nmin_examples = 'many'\n"
        "[server]\nport = 70000\n[gates.refusal]\nrule = 'pint'\nleast_items = 'few'\n"
    )
    message = _refused(path, {"BHAVANA_SCHEDULE__EVERY_HOURS": "-1", "BHAVANA_PANEL": "3"})
    keys = (
        "polcy",
        "policy.max_harm",
        "policy.min_examples",
        "server.port",
        "gates.refusal.rule",
        "gates.refusal.least_items",
        "schedule.every_hours",
        "panel",
    )
    for key in keys:
        assert key in message
    assert message.count("\n") == len(keys)
    assert str(path) in message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("BHAVANA_POLICY__MAX_HARM", "nan"),
        ("BHAVANA_POLICY__MAX_HARM", "inf"),
        ("BHAVANA_SCHEDULE__EVERY_HOURS", "nan"),
        ("BHAVANA_SCHEDULE__EVERY_HOURS", "inf"),
        ("BHAVANA_SCHEDULE__EVERY_HOURS", "1e300"),
        ("BHAVANA_POLICY__LABELS", '["splendid"]'),
        ("BHAVANA_POLICY", "3"),
        ("BHAVANA_GATES__REFUSAL", "3"),
        ("BHAVANA_PANEL__WEIGHTS__AHIMSA", "much"),
        ("BHAVANA_TRAINER__TARGET", "3"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_its_key(name, text):
    """No number, no such label, a value where a section belongs: told, not found out later."""
    message = _refused(None, {name: text})
    assert name.removeprefix("BHAVANA_").lower().split("__")[0] in message


def test_a_section_and_a_key_of_it_in_the_environment_are_a_problem():
    """A value for a section beside a value for one of its keys is told like any other fault."""
    message = _refused(None, {"BHAVANA_POLICY": "3", "BHAVANA_POLICY__MAX_HARM": "0.2"})
    assert "policy" in message


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"a = [1", "not valid TOML"), (b"\xff\xfe", "not valid TOML"), (None, "cannot be read")],
)
def test_a_file_that_cannot_be_read_is_told(tmp_path, content, reason):
    """Bad TOML, bad text and a missing file name the file."""
    path = tmp_path / "bhavana.toml"
    if content is not None:
        path.write_bytes(content)
    message = _refused(path, {})
    assert reason in message
    assert str(path) in message


def test_the_file_is_found_where_people_put_it(tmp_path, monkeypatch):
    """The one given, else $BHAVANA_CONFIG, else the user's, else none."""
    for name in ("BHAVANA_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    users = tmp_path / ".config" / "bhavana" / "bhavana.toml"
    assert find_config(None) != users
    users.parent.mkdir(parents=True)
    users.write_text("")
    assert find_config(None) == users
    monkeypatch.setenv("BHAVANA_CONFIG", "/elsewhere.toml")
    assert find_config(None) == Path("/elsewhere.toml")
    assert find_config(Path("given.toml")) == Path("given.toml")


def test_the_data_folder_is_systemds_else_the_users(tmp_path, monkeypatch):
    """Without data_dir it is $STATE_DIRECTORY, $XDG_DATA_HOME/bhavana or ~/.local/share."""
    for name in ("STATE_DIRECTORY", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Settings().data == tmp_path / ".local" / "share" / "bhavana"
    monkeypatch.setenv("XDG_DATA_HOME", "/xdg")
    assert Settings().data == Path("/xdg/bhavana")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/bhavana")
    assert Settings().data == Path("/var/lib/bhavana")
    assert Settings(data_dir="~/mine").data == tmp_path / "mine"


def test_a_source_may_have_redaction_rules_of_its_own(tmp_path):
    """Named freely in the file; a wrong kind is reported with its key."""
    path = tmp_path / "bhavana.toml"
    path.write_text('[redaction.sources.web]\ncontent = "withhold"\n')
    rules = load(path, {}).redaction.rules_for
    assert (rules("web").content, rules("app").content) == ("withhold", "keep")
    assert rules("exemplar").kinds == ()
    path.write_text('[redaction]\nkinds = ["shoe size"]\n')
    with pytest.raises(Misconfigured, match=r"redaction\.kinds"):
        load(path, {})


def test_standard_gates_ask_for_the_seeds_numbers() -> None:
    """The preset for real models sets floors and asks for proof; a key of one gate goes before."""
    given = {"BHAVANA_TRAINER__GATE_RULES": "standard", "BHAVANA_GATES__REFUSAL__FLOOR": "0.99"}
    gates = load(None, given).gates
    assert gates["refusal"].floor == 0.99
    assert gates["over_refusal_ordinary"].floor == 0.05
    by_point = {name for name, rule in gates.items() if rule.rule == "point"}
    assert by_point == {"nourishment", "held_out_least"}  # all of them is a point
    assert {rule.base_below_floor for rule in gates.values()} == {"hold"}
    assert load(None, {}).gates["refusal"].floor is None


def test_unknown_preset_of_gates_is_told() -> None:
    """A preset that there is not, is a problem of the configuration."""
    with pytest.raises(Misconfigured, match=r"trainer\.gate_rules"):
        load(None, {"BHAVANA_TRAINER__GATE_RULES": "lenient"})


def test_a_target_that_is_not_set_up_is_told(written, tmp_path):
    """With every key that lacks a value, and a base that it cannot serve; before a training."""
    path = written('[trainer]\ntarget = "cloudflare"\n[targets.cloudflare]\nkey = "b"\n')
    said = _refused(path, {})
    for key in ("account_id", "token", "kv_namespace"):
        assert f"targets.cloudflare.{key} is empty" in said
    assert "trainer.base is smollm2-135m" in said
    secret = tmp_path / "token"
    secret.write_text("secret\n")
    name = "BHAVANA_TARGETS__CLOUDFLARE__"
    told = {
        f"{name}TOKEN_FILE": str(secret),
        f"{name}ACCOUNT_ID": "a1",
        f"{name}KV_NAMESPACE": "n1",
        "BHAVANA_TRAINER__BASE": "mistralai/Mistral-7B-Instruct-v0.2@main",
    }
    assert load(path, told).targets.cloudflare.token == "secret"

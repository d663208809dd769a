"""Releases as models of an Ollama server: what is made there, what serves, what goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from store.errors import IntegrityError, NotFound, Rejected, Unavailable
from tests.ollama_stand_in.server import StandIn
from tests.tiny_releases import adapter, delivery
from trainer.base import Base
from trainer.journal import UnwrittenJournal
from trainer.targets.ollama.client import Ollama
from trainer.targets.ollama.settings import OllamaSettings
from trainer.targets.ollama.target import OllamaTarget
from trainer.targets.target import Delivery, Traffic

MakeTarget = Callable[..., OllamaTarget]


def names(stand_in: StandIn) -> set[str]:
    """The models on the server, the bare base without its digest."""
    return {tag["name"].split("base-")[0] for tag in stand_in.library.tags()}


def test_makes_a_release_of_the_bare_base_and_one_adapter(
    target: OllamaTarget, stand_in: StandIn, first: Delivery, notes: UnwrittenJournal
) -> None:
    """The release has our base, our adapter alone and our template; its digests are noted."""
    target.publish(first)

    made = stand_in.library.model("bhavana:release-1")
    noted = notes.noted("release-1", "publish")
    assert made.base.name == f"sha256-{first.base.hash}"
    assert [path.name for path in made.adapters] == [f"sha256-{noted['adapter']}"]
    assert made.parameters["stop"] == ["<|im_end|>"]
    assert made.digest == noted["digest"]


def test_never_stacks_a_release_on_an_earlier_one(
    target: OllamaTarget, stand_in: StandIn, first: Delivery, second: Delivery
) -> None:
    """While the first serves, the second has one adapter, too."""
    target.publish(first)
    target.activate(Traffic(release="release-1"))
    target.publish(second)

    assert len(stand_in.library.model("bhavana:release-2").adapters) == 1


def test_uploads_and_makes_the_base_once(
    target: OllamaTarget, stand_in: StandIn, first: Delivery, second: Delivery
) -> None:
    """The second release sends its adapter only."""
    target.publish(first)
    stand_in.requests.clear()
    target.publish(second)

    uploads = [said for said in stand_in.sent() if said.startswith("POST /api/blobs")]
    assert len(uploads) == 1
    assert stand_in.sent("/api/create") == ["POST /api/create"]


def test_publishing_again_changes_nothing(
    target: OllamaTarget, stand_in: StandIn, first: Delivery
) -> None:
    """What lies there whole is neither sent nor made again."""
    assert target.publish(first) == f"{stand_in.url}/bhavana:release-1"
    stand_in.requests.clear()

    assert target.publish(first) == f"{stand_in.url}/bhavana:release-1"
    assert stand_in.sent("/api/create") == []
    assert not any("blobs" in said for said in stand_in.sent())


def test_makes_anew_what_has_another_adapter_under_its_name(
    target: OllamaTarget, stand_in: StandIn, first: Delivery, second: Delivery
) -> None:
    """Somebody copied another release over it."""
    target.publish(first)
    target.publish(second)
    library = stand_in.library
    library.copy("bhavana:release-1", "bhavana:release-2")
    target.publish(second)

    one, two = (library.model(f"bhavana:release-{n}").adapters for n in (1, 2))
    assert one != two


def test_publishing_serves_nobody(
    target: OllamaTarget, stand_in: StandIn, first: Delivery, second: Delivery
) -> None:
    """What people call stays what it was."""
    target.publish(first)
    assert "bhavana:latest" not in names(stand_in)
    target.activate(Traffic(release="release-1"))
    target.publish(second)

    assert target.active() == Traffic(release="release-1")


def test_the_alias_has_the_digest_of_what_serves(
    target: OllamaTarget, stand_in: StandIn, first: Delivery, second: Delivery
) -> None:
    """And is in memory when the switch returns; the way back is the same."""
    target.publish(first)
    target.publish(second)
    for release in ("release-1", "release-2", "release-1"):
        target.restore(release)
        digest = stand_in.library.model(f"bhavana:{release}").digest
        assert stand_in.library.model("bhavana:latest").digest == digest
        assert [loaded["digest"] for loaded in stand_in.answers.processes()] == [digest]
        assert target.active() == Traffic(release=release)


def test_people_can_talk_to_the_base_when_no_release_serves(
    target: OllamaTarget, stand_in: StandIn, first: Delivery
) -> None:
    """The alias is a copy of the bare base then."""
    target.publish(first)
    target.activate(Traffic(release="release-1"))
    target.restore(None)

    assert target.active() == Traffic(release=None)
    assert stand_in.library.model("bhavana:latest").adapters == ()


def test_two_releases_of_one_adapter_are_told_apart(target: OllamaTarget, first: Delivery) -> None:
    """Their digests differ, so it is known which of them serves."""
    again = delivery("release-7", Path(first.adapter), first.base)
    target.publish(first)
    target.publish(again)
    target.activate(Traffic(release="release-7"))

    assert target.active() == Traffic(release="release-7")


def test_lines_have_names_of_their_own(
    target: OllamaTarget, stand_in: StandIn, first: Delivery, second: Delivery
) -> None:
    """They share the base, and serve without each other's knowing."""
    target.publish(first)
    target.publish(delivery("release-2", Path(second.adapter), second.base, line="math"))
    target.activate(Traffic(release="release-1"))
    target.activate(Traffic(release="release-2"), "math")

    assert target.active() == Traffic(release="release-1")
    assert target.active("math") == Traffic(release="release-2")
    expected = {"bhavana:", "bhavana:release-1", "bhavana:latest"}
    assert names(stand_in) == expected | {"bhavana-math:release-2", "bhavana-math:latest"}


def test_refuses_a_release_that_is_not_there(target: OllamaTarget, first: Delivery) -> None:
    """And what serves serves on."""
    target.publish(first)
    target.activate(Traffic(release="release-1"))
    with pytest.raises(NotFound, match="release-9"):
        target.activate(Traffic(release="release-9"))

    assert target.active() == Traffic(release="release-1")


def test_cannot_share_traffic(target: OllamaTarget) -> None:
    """One server would load the model anew at every other request."""
    with pytest.raises(Rejected, match="share"):
        target.activate(Traffic(release=None, canary="release-1", share=0.1))


def test_heals_a_name_that_a_killed_server_left_half_written(
    target: OllamaTarget, stand_in: StandIn, first: Delivery
) -> None:
    """An empty manifest is nobody's; the next switch writes it whole."""
    target.publish(first)
    target.activate(Traffic(release="release-1"))
    stand_in.library.path("bhavana:latest").write_bytes(b"")
    assert target.active() == Traffic(release=None)

    target.activate(Traffic(release="release-1"))
    assert target.active() == Traffic(release="release-1")


def test_copies_again_where_the_copy_did_not_take(
    target: OllamaTarget, stand_in: StandIn, first: Delivery, second: Delivery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A server may say that it copied, and have the old one still."""
    target.publish(first)
    target.publish(second)
    target.activate(Traffic(release="release-1"))
    copy, lost = stand_in.library.copy, []

    def at_the_third_try(source: str, destination: str) -> None:
        if len(lost) < 2:
            lost.append(source)
        else:
            copy(source, destination)

    monkeypatch.setattr(stand_in.library, "copy", at_the_third_try)
    target.activate(Traffic(release="release-2"))

    assert len(lost) == 2
    assert target.active() == Traffic(release="release-2")


def test_retires_what_is_not_kept_and_its_blobs(
    target: OllamaTarget, stand_in: StandIn, base: Base, tmp_path: Path
) -> None:
    """Not the base, not what serves, not what is kept; and nothing that people made by hand."""
    for n in range(1, 5):
        target.publish(delivery(f"release-{n}", adapter(tmp_path / str(n), base, n), base))
    target.activate(Traffic(release="release-4"))
    stand_in.library.copy("bhavana:release-1", "bhavana:mine")
    blobs = len(list(stand_in.library.blobs.iterdir()))

    assert set(target.retire(["release-3"])) == {"release-1", "release-2"}
    expected = {"bhavana:", "bhavana:latest", "bhavana:mine", "bhavana:release-3"}
    assert names(stand_in) == expected | {"bhavana:release-4"}
    assert len(list(stand_in.library.blobs.iterdir())) == blobs - 2  # one adapter, one license
    assert target.retire(["release-3"]) == ()


def test_never_retires_what_serves(target: OllamaTarget, first: Delivery) -> None:
    """Even where nobody asked to keep it."""
    target.publish(first)
    target.activate(Traffic(release="release-1"))

    assert target.retire([]) == ()
    assert target.active() == Traffic(release="release-1")


def test_keeps_the_newest_of_earlier_releases(make: MakeTarget, base: Base, tmp_path: Path) -> None:
    """As many as the settings say."""
    target = make(keep=1)
    for n in range(1, 4):
        target.publish(delivery(f"release-{n}", adapter(tmp_path / str(n), base, n), base))

    assert target.retire([]) == ("release-2", "release-1")


def test_refuses_a_name_that_is_somebody_elses(
    target: OllamaTarget, stand_in: StandIn, first: Delivery
) -> None:
    """A model that people made is not overwritten, and not taken for a release."""
    target.publish(first)
    with Ollama(OllamaSettings(url=stand_in.url)) as ollama:
        file = Path(first.base.location)
        ollama.upload(file, first.base.hash)
        ollama.create("bhavana:latest", {"files": {"b.gguf": f"sha256:{first.base.hash}"}})

    with pytest.raises(Rejected, match="somebody else"):
        target.preflight(first)
    with pytest.raises(IntegrityError, match="somebody else"):
        target.active()


def test_preflight_changes_nothing(
    target: OllamaTarget, stand_in: StandIn, first: Delivery
) -> None:
    """It only looks."""
    target.preflight(first)
    assert set(stand_in.sent()) == {"GET /api/version", "GET /api/tags"}


def test_preflight_tells_all_faults_together(
    make: MakeTarget, stand_in: StandIn, first: Delivery, tmp_path: Path
) -> None:
    """An adapter that no server adds as PEFT does, and a base that is no GGUF."""
    folder = adapter(tmp_path / "dora", first.base)
    config = folder / "adapter_config.json"
    config.write_text(config.read_text().replace('"r": 4', '"r": 4, "use_dora": true'))
    dora = delivery("release-1", folder, first.base)
    stand_in.version = "0.5.4"

    with pytest.raises(Rejected, match=r"0\.5\.4.*DoRA"):
        make().preflight(dora)


def test_a_dry_run_tells_every_request_and_changes_nothing(
    make: MakeTarget, stand_in: StandIn, first: Delivery
) -> None:
    """Reads are sent; what would change something is told, without the token."""
    lines: list[str] = []
    stand_in.token = "key-123"
    target = make(tell=lines.append, token="key-123")
    target.preflight(first)
    target.publish(first)
    target.activate(Traffic(release="release-1"))

    told = [line.split("\n")[0].removeprefix(f"POST {stand_in.url}") for line in lines]
    blobs = ["/api/blobs/sha256", "/api/create"] * 2
    assert [line.split(":")[0] for line in told] == [*blobs, "/api/copy"]
    assert all("[secret]" in line and "key-123" not in line for line in lines)
    assert {said.split()[0] for said in stand_in.sent()} == {"GET", "HEAD"}
    assert names(stand_in) == set()


def test_an_answer_that_was_lost_is_no_harm(
    make: MakeTarget, stand_in: StandIn, first: Delivery
) -> None:
    """The server made the release and could not say so: publishing again finds it whole."""
    target = make(retries=0)
    stand_in.fault = lambda _m, path, document: (
        "lost" if path == "/api/create" and "from" in document else None
    )
    with pytest.raises(Unavailable, match="broke"):
        target.publish(first)
    stand_in.fault = lambda *_: None
    stand_in.requests.clear()
    target.publish(first)

    assert stand_in.sent("/api/create") == []

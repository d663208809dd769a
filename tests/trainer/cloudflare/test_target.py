"""A release's way to Cloudflare and back, against a stand-in that keeps what the real one keeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from store.errors import (
    BhavanaError,
    IntegrityError,
    Misconfigured,
    NotFound,
    ProbeFailed,
    Rejected,
    Unavailable,
)
from tests.cloudflare_stand_in import LORA_MODEL, Finetune, StandIn
from tests.trainer.cloudflare.conftest import Evaluated, Make, Noted, as_base, as_candidate
from trainer.adapter import FILES
from trainer.targets.cloudflare.errors import UnknownFinetune
from trainer.targets.cloudflare.target import CloudflareTarget
from trainer.targets.target import Delivery, Traffic

Deliver = Callable[..., Delivery]


def promoted(target: CloudflareTarget, delivery: Delivery) -> None:
    """The whole way."""
    target.preflight(delivery)
    target.publish(delivery)
    target.probe(delivery, Evaluated())
    target.activate(Traffic(release=delivery.release), delivery.line)


def pointer(stand_in: StandIn, line: str = "main") -> Any:
    """What lies in KV."""
    return json.loads(stand_in.account.values[f"bhavana-{line}"][-1])


def test_a_release_is_promoted(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn
) -> None:
    """One finetune with both files, config first; the pointer carries model and finetune."""
    delivery = deliver()
    promoted(target, delivery)
    (finetune,) = stand_in.account.finetunes
    assert finetune.name == f"main-release-1-{delivery.adapter_hash[:8]}"
    assert delivery.adapter_hash in finetune.description
    assert list(finetune.files) == list(FILES)
    assert json.loads(finetune.files[FILES[0]])["model_type"] == "mistral"
    said = pointer(stand_in)
    assert (said["version"], said["model"], said["finetune_id"], said["adapter_sha256"]) == (
        "release-1",
        LORA_MODEL,
        finetune.id,
        delivery.adapter_hash,
    )
    assert (said["prompt_template"], said["previous"], said["canary"]) == (
        "mistral-v0.2",
        None,
        None,
    )
    assert target.active() == Traffic(release="release-1")


def test_the_archive_stays_as_it_is(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn
) -> None:
    """What is uploaded is a copy: half the bytes, and a model type."""
    delivery = deliver()
    before = {name: (Path(delivery.adapter) / name).read_bytes() for name in FILES}
    target.publish(delivery)
    assert {name: (Path(delivery.adapter) / name).read_bytes() for name in FILES} == before
    uploaded = stand_in.account.finetunes[0].files[FILES[1]]
    assert len(uploaded) < 0.75 * len(before[FILES[1]])


def test_publishing_serves_nobody(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn
) -> None:
    """Until it is activated no pointer names it."""
    assert target.active() == Traffic(release=None)
    target.publish(deliver())
    assert stand_in.account.values == {}
    assert target.active() == Traffic(release=None)


def test_publish_is_idempotent(make: Make, deliver: Deliver, stand_in: StandIn) -> None:
    """However often it is repeated: one slot, each file once, the same location."""
    delivery = deliver()
    assert make().publish(delivery) == make().publish(delivery)
    assert len(stand_in.account.finetunes) == 1
    assert len(stand_in.asked("create")) == 1
    assert len(stand_in.asked("asset")) == 2


@pytest.mark.parametrize("fault", ["lost", "late", "torn", "page", 500])
def test_a_create_whose_answer_is_lost_is_not_repeated(
    make: Make, deliver: Deliver, stand_in: StandIn, fault: Any
) -> None:
    """The finetune that it may have made is looked up by its name, and one more is never made."""
    stand_in.faults["create"] = [fault]
    target = make(timeout_seconds=2 if fault == "late" else 30)
    delivery = deliver()
    if fault in ("page", 500):  # here it was not made
        with pytest.raises(Unavailable, match="not known yet"):
            target.publish(delivery)
    target.publish(delivery)
    assert len(stand_in.account.finetunes) == 1
    assert stand_in.account.finetunes[0].files.keys() == set(FILES)


@pytest.mark.parametrize("shape", ["flat", "nested", "object"])
def test_an_orphan_of_a_killed_publish_is_adopted(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn, shape: str
) -> None:
    """In whichever of its shapes the list comes."""
    stand_in.account.list_shape = shape
    delivery = deliver()
    name = f"main-release-1-{delivery.adapter_hash[:8]}"
    orphan = Finetune(LORA_MODEL, name, f"Bhavana release-1, sha256 {delivery.adapter_hash}")
    stand_in.account.finetunes.append(orphan)
    target.preflight(delivery)
    assert target.publish(delivery).endswith(orphan.id)
    assert stand_in.asked("create") == []


def test_a_list_in_no_known_shape_uploads_nothing(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who does not know what is there must not add to it."""
    monkeypatch.setattr(stand_in.account, "listed", lambda: {"finetunes": []})
    with pytest.raises(Unavailable, match="form that is not known"):
        target.publish(deliver())
    assert stand_in.asked("create") == []
    stand_in.exchanges.clear()  # the schema knows no such list, either


def test_the_id_is_noted_before_anything_is_uploaded(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn, journal: Noted
) -> None:
    """A kill in the middle of the upload finds the finetune again."""
    stand_in.faults["asset"] = ["unheard"] * 3
    with pytest.raises(Unavailable):
        target.publish(deliver())
    noted = journal.noted("release-1", "publish")
    assert noted["finetune_id"] == stand_in.account.finetunes[0].id
    assert stand_in.account.finetunes[0].files == {}


@pytest.mark.parametrize("fault", ["unheard", "lost", "torn", 500, "page"])
@pytest.mark.parametrize("place", [0, 1])
def test_each_file_is_sent_again_until_it_is_there(
    make: Make, deliver: Deliver, stand_in: StandIn, fault: Any, place: int
) -> None:
    """What is refused after an answer was lost is there already, and the run says so."""
    stand_in.faults["asset"] = [None] * place + [fault]
    make().publish(deliver())
    (finetune,) = stand_in.account.finetunes
    assert finetune.files.keys() == set(FILES)
    names = [FILES[0] in str(e.body[:300]) for e in stand_in.asked("asset")]
    assert names == [[True, True, False], [True, False, False]][place]


def test_an_upload_goes_on_where_it_was_broken_off(
    make: Make, deliver: Deliver, stand_in: StandIn
) -> None:
    """The config is not sent twice, and no second slot is used."""
    stand_in.faults["asset"] = [None, 500, 500, 500]
    delivery = deliver()
    with pytest.raises(Unavailable):
        make().publish(delivery)
    make().publish(delivery)
    assert [FILES[0] in str(e.body[:300]) for e in stand_in.asked("asset")] == [True] + [False] * 4
    assert len(stand_in.account.finetunes) == 1


def test_other_bytes_under_the_same_release_are_refused(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn
) -> None:
    """A finetune cannot be changed, so a release cannot either."""
    target.publish(deliver())
    with pytest.raises(IntegrityError):
        target.publish(deliver(lora_alpha=16))
    assert len(stand_in.account.finetunes) == 1


def test_it_waits_until_the_model_knows_the_finetune(
    make: Make, deliver: Deliver, stand_in: StandIn
) -> None:
    """3037 right after the upload is no failure yet."""
    stand_in.account.unknown_runs = 3
    make(ready_seconds=30).publish(deliver())
    assert len(stand_in.asked("run")) == 4


ERRORS = [
    (3036, Unavailable, "daily allocation.*00:00 UTC", 1),
    (3037, UnknownFinetune, "does not know the finetune.*goes on with the same", None),
    (3039, Rejected, "files are not all there.*cannot be replaced", 1),
    (3040, Unavailable, "no capacity.*nothing of the adapter", 3),
    (5005, Misconfigured, "serves no LoRA.*catalog", 1),
    (5007, Misconfigured, "no such model.*deprecated", 1),
    ("rate", Unavailable, "asks too often.*five minutes", 1),
    (500, Unavailable, "Cloudflare itself failed", 3),
    ("unheard", Unavailable, "broke the connection", 3),
    ("page", Unavailable, "something else than its API", 1),
    ("unsuccessful", Rejected, "7000", 1),
]


@pytest.mark.parametrize(
    ("fault", "kind", "said", "asked"), ERRORS, ids=[str(e[0]) for e in ERRORS]
)
def test_each_error_of_a_run_is_its_own_and_the_old_release_serves_on(
    make: Make,
    deliver: Deliver,
    stand_in: StandIn,
    fault: Any,
    kind: type[BhavanaError],
    said: str,
    asked: int | None,
) -> None:
    """With its code, its meaning and the next step; asked again only where that may help."""
    target = make()
    promoted(target, deliver("release-0"))
    before = dict(stand_in.account.values)
    runs = len(stand_in.asked("run"))
    stand_in.faults["run"] = [fault] * 1000
    with pytest.raises(kind, match=said) as raised:
        target.publish(deliver("release-1"))
    assert type(raised.value) is kind or fault == 500
    if asked is not None:
        assert len(stand_in.asked("run")) - runs == asked
    assert stand_in.account.values == before
    assert target.active() == Traffic(release="release-0")
    stand_in.faults["run"].clear()
    promoted(target, deliver("release-1"))
    assert len(stand_in.account.finetunes) == 2


# --- probe --------------------------------------------------------------------------------


def test_the_probe_tells_what_it_saw(target: CloudflareTarget, deliver: Deliver) -> None:
    """Asked with the adapter and without; the served answers are the evaluated ones."""
    delivery = deliver()
    target.publish(delivery)
    assert target.probe(delivery, Evaluated()) == pytest.approx(
        {
            "asked": 6,
            "changed_by_adapter": 1,
            "as_evaluated": 1,
            "as_base": 0,
            "control_as_base": 1,
        }
    )


def test_every_run_is_greedy_rendered_and_repeatable(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn
) -> None:
    """The prompt is the training template's, `raw` is a boolean, temperature 0 and a seed."""
    delivery = deliver()
    target.publish(delivery)
    target.probe(delivery, Evaluated())
    for exchange in stand_in.asked("run"):
        asked = json.loads(exchange.body)
        assert asked["prompt"].startswith("<s> [INST] ")
        assert (asked["raw"], asked["temperature"], asked["seed"]) == (True, 0, 1)
        assert "messages" not in asked


def test_a_gateway_is_gone_through_past_its_cache(
    make: Make, deliver: Deliver, stand_in: StandIn
) -> None:
    """A cached answer of the base would look like an adapter without effect."""
    make(gateway="watch").publish(deliver())
    (run,) = stand_in.asked("run")
    asked = json.loads(run.body)
    assert run.path.endswith("/ai/run")
    assert asked["options"]["gateway"] == {"id": "watch", "skipCache": True}
    assert asked["input"]["raw"] is True


def test_an_adapter_that_is_left_out_is_seen(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn
) -> None:
    """`lora` is taken and ignored: with and without it the same is answered."""
    delivery = deliver()
    target.publish(delivery)
    stand_in.account.ignores_lora = True
    with pytest.raises(ProbeFailed, match="the same with the adapter and without"):
        target.probe(delivery, Evaluated())


@pytest.mark.parametrize(
    ("adapted", "plain", "said"),
    [
        (as_candidate, lambda p: f"Another model, {p[-9:]}", "not answer as our base"),
        (lambda p: f"Louder, {p[-9:]}", as_base, "not answer as the evaluated model"),
        (lambda p: as_base(p) + "!", as_base, "not answer as the evaluated model"),
    ],
    ids=["another base or prompt", "another scaling", "almost the base"],
)
def test_the_control_run_says_what_does_not_fit(
    target: CloudflareTarget,
    deliver: Deliver,
    stand_in: StandIn,
    adapted: Callable[[str], str],
    plain: Callable[[str], str],
    said: str,
) -> None:
    """A wrong base or template is not blamed on the adapter, nor the other way round."""
    delivery = deliver()
    target.publish(delivery)
    stand_in.account.speak = lambda p, finetune, _: adapted(p) if finetune else plain(p)
    with pytest.raises(ProbeFailed, match=said):
        target.probe(delivery, Evaluated())


def test_an_outage_is_not_blamed_on_the_adapter(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn
) -> None:
    """When the control run fails, too, nothing is known of the adapter."""
    delivery = deliver()
    target.publish(delivery)
    stand_in.faults["run"] = [None, *[500] * 6]
    with pytest.raises(Unavailable, match="Cloudflare itself failed"):
        target.probe(delivery, Evaluated())


def test_what_fails_with_the_adapter_alone_is_its_fault(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn
) -> None:
    """The control run answers."""
    delivery = deliver()
    target.publish(delivery)
    stand_in.faults["run"] = [None, 500, 500, 500]
    with pytest.raises(ProbeFailed, match=r"answers, but not with main-release-1"):
        target.probe(delivery, Evaluated())


# --- the pointer --------------------------------------------------------------------------


def test_the_next_release_falls_back_to_the_one_before(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn
) -> None:
    """And the way back is the pointer alone, without what was left as a fallback."""
    promoted(target, deliver("release-1"))
    promoted(target, deliver("release-2"))
    assert pointer(stand_in)["previous"]["version"] == "release-1"
    uploads = len(stand_in.asked("asset", "create", "run"))
    target.restore("release-1")
    assert target.active() == Traffic(release="release-1")
    assert pointer(stand_in)["previous"] is None
    target.restore(None)
    assert target.active() == Traffic(release=None)
    assert pointer(stand_in)["version"] == "mistralai/Mistral-7B-Instruct-v0.2"
    assert len(stand_in.asked("asset", "create", "run")) == uploads


@pytest.mark.parametrize("verb", ["activate", "restore"])
def test_what_was_left_on_the_way_back_is_no_fallback(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn, verb: str
) -> None:
    """Else a release that did harm would answer again where the old one fails."""
    for release in ("release-1", "release-2", "release-3"):
        promoted(target, deliver(release))
    if verb == "activate":
        target.activate(Traffic(release="release-2"))
    else:
        target.restore("release-1")
    assert pointer(stand_in)["previous"] is None


def test_a_release_whose_finetune_is_gone_is_published_again(
    make: Make, deliver: Deliver, stand_in: StandIn
) -> None:
    """From the archive, as a new finetune with both files."""
    target = make(ready_seconds=0)
    promoted(target, deliver("release-1"))
    stand_in.account.finetunes.clear()
    target.publish(deliver("release-1"))
    target.activate(Traffic(release="release-1"))
    (finetune,) = stand_in.account.finetunes
    assert finetune.files.keys() == set(FILES)
    assert pointer(stand_in)["finetune_id"] == finetune.id


def test_a_finetune_that_is_not_listed_yet_is_not_made_twice(
    make: Make, deliver: Deliver, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that lags behind would else cost a slot."""
    stand_in.faults["asset"] = [500] * 3
    target = make(ready_seconds=600)
    with pytest.raises(Unavailable):
        target.publish(deliver())
    with monkeypatch.context() as lagging:
        lagging.setattr(stand_in.account, "listed", list)
        target.publish(deliver())
    assert len(stand_in.account.finetunes) == 1


def test_a_canary_answers_a_share(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn
) -> None:
    """Beside a release, or beside the base; then it goes on, or back, alone."""
    for release in ("release-1", "release-2"):
        target.publish(deliver(release))
    trial = Traffic(release=None, canary="release-1", share=0.25)
    target.activate(trial)
    assert target.active() == trial
    assert pointer(stand_in)["canary"]["share"] == 0.25
    target.activate(Traffic(release="release-1"))
    trial = Traffic(release="release-1", canary="release-2", share=0.05)
    target.activate(trial)
    assert target.active() == trial
    target.restore("release-1")
    assert target.active() == Traffic(release="release-1")
    assert pointer(stand_in)["previous"]["finetune_id"] is None


def test_lines_have_pointers_of_their_own(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn
) -> None:
    """What one line serves is nothing to another."""
    promoted(target, deliver("release-1"))
    promoted(target, deliver("release-2", "math"))
    target.restore(None)
    assert (target.active(), target.active("math")) == (
        Traffic(release=None),
        Traffic(release="release-2"),
    )
    assert stand_in.account.finetunes[1].name.startswith("math-release-2-")


def test_a_pointer_that_points_there_already_is_not_written(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn
) -> None:
    """A key may be written once a second."""
    promoted(target, deliver())
    target.activate(Traffic(release="release-1"))
    assert len(stand_in.asked("write")) == 1


def test_a_pointer_that_is_seen_late_is_waited_for(
    make: Make, deliver: Deliver, stand_in: StandIn
) -> None:
    """KV shows what was before for a while."""
    target = make(switch_seconds=30)
    target.publish(deliver())
    moved = stand_in.account.values
    stand_in.account.stale_reads = 4
    target.activate(Traffic(release="release-1"))
    assert len(moved["bhavana-main"]) == 1
    assert stand_in.account.stale_reads == 0


def test_a_pointer_that_is_never_seen_is_told(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn
) -> None:
    """Then it is not known who answers, and the caller moves it back."""
    target.publish(deliver())
    stand_in.account.stale_reads = 10_000
    with pytest.raises(Unavailable, match="KV did not say so"):
        target.activate(Traffic(release="release-1"))
    stand_in.account.stale_reads = 0
    target.restore(None)
    assert target.active() == Traffic(release=None)


def test_a_value_that_is_not_ours_is_not_overwritten(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn
) -> None:
    """Somebody else's key is found out before anything is moved."""
    stand_in.account.values["bhavana-main"] = [b'{"theirs": true}']
    delivery = deliver()
    with pytest.raises(Rejected, match="no pointer of Bhavana's"):
        target.preflight(delivery)
    target.publish(delivery)
    with pytest.raises(IntegrityError, match="bhavana-main"):
        target.activate(Traffic(release="release-1"))
    assert stand_in.asked("write") == []


@pytest.mark.parametrize("fault", [500, "unheard", "torn", "page"])
def test_a_write_that_fails_leaves_what_was(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn, fault: Any
) -> None:
    """It is repeated, which is safe; in the end it is told."""
    promoted(target, deliver("release-1"))
    target.publish(deliver("release-2"))
    stand_in.faults["write"] = [fault] * 3
    with pytest.raises(Unavailable):
        target.activate(Traffic(release="release-2"))
    stand_in.faults.clear()
    target.restore("release-1")
    assert target.active() == Traffic(release="release-1")


def test_what_was_never_published_is_not_found(target: CloudflareTarget, deliver: Deliver) -> None:
    """The old release serves on."""
    promoted(target, deliver())
    for switch in (
        lambda: target.activate(Traffic(release="release-9")),
        lambda: target.activate(Traffic(release="release-1", canary="release-9", share=0.1)),
        lambda: target.restore("release-9"),
    ):
        with pytest.raises(NotFound, match="release-9"):
            switch()
    assert target.active() == Traffic(release="release-1")


@pytest.mark.parametrize("way", ["activate", "restore"])
def test_a_finetune_that_is_gone_is_refused(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn, way: str
) -> None:
    """Support may take one away; pointing there would leave nobody to answer."""
    for release in ("release-1", "release-2"):
        promoted(target, deliver(release))
    del stand_in.account.finetunes[0]
    back = Traffic(release="release-1") if way == "activate" else "release-1"
    with pytest.raises(NotFound, match="of release-1 is not at Cloudflare any more"):
        getattr(target, way)(back)
    assert target.active() == Traffic(release="release-2")


@pytest.mark.parametrize(
    "properties",
    [None, {"lora": "true", "planned_deprecation_date": "2026-05-30T00:00:00Z"}, {"lora": False}],
    ids=["gone", "past its date", "no lora"],
)
def test_a_deprecated_model_is_refused(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn, properties: Any
) -> None:
    """For what is new, and for the way back; the base's model without adapter is always there."""
    delivery = deliver()
    promoted(target, delivery)
    target.restore(None)
    stand_in.account.catalog = {} if properties is None else {LORA_MODEL: properties}
    with pytest.raises(Rejected, match=r"deprecated|no LoRA|has no"):
        target.preflight(delivery)
    with pytest.raises(Rejected, match="serves this no more"):
        target.restore("release-1")
    target.restore(None)
    assert target.active() == Traffic(release=None)


def test_a_rollback_is_not_held_up_by_a_look_that_fails(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn
) -> None:
    """The catalog and the list may be down while KV works."""
    for release in ("release-1", "release-2"):
        promoted(target, deliver(release))
    stand_in.faults["list"] = [500] * 9
    target.restore("release-1")
    assert target.active() == Traffic(release="release-1")


def test_retire_says_what_stays(target: CloudflareTarget, deliver: Deliver, journal: Noted) -> None:
    """Cloudflare has no delete: nothing goes, and nobody is told that something did."""
    for release in ("release-1", "release-2"):
        promoted(target, deliver(release))
    assert target.retire(["release-2"]) == ()
    left = journal.noted("release-2", "retire")["left"]
    assert "workers-sdk#14450" in left
    assert "main-release-1-" in left


# --- a dry run ----------------------------------------------------------------------------


def test_a_dry_run_tells_every_request_and_changes_nothing(
    make: Make, deliver: Deliver, stand_in: StandIn
) -> None:
    """Create, both files, a run, the probe's two and the pointer; and the token nowhere."""
    told: list[str] = []
    promoted(make(tell=told.append), deliver())
    heads = [text.splitlines()[0].replace(stand_in.url, "") for text in told]
    account = f"/accounts/{stand_in.account.id}"
    nowhere = "00000000-0000-0000-0000-000000000000"
    asset = f"POST {account}/ai/finetunes/{nowhere}/finetune-assets"
    run = f"POST {account}/ai/run/{LORA_MODEL}"
    namespace = f"{account}/storage/kv/namespaces/{stand_in.account.namespace}"
    assert heads == [
        f"POST {account}/ai/finetunes",
        asset,
        asset,
        run,
        run,
        run,
        f"PUT {namespace}/values/bhavana-main",
    ]
    assert stand_in.account.finetunes == []
    assert stand_in.account.values == {}
    assert {e.method for e in stand_in.exchanges} == {"GET"}
    assert stand_in.account.token not in "".join(told)

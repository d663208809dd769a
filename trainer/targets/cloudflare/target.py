"""Cloudflare Workers AI: a release is a finetune, and a key in KV says which one answers.

A finetune can be made and never changed or deleted, so a promotion is a new finetune and a moved
pointer, and the way back is the pointer alone. The journal knows which finetune a release is.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path

from msgspec.structs import asdict

from store.errors import IntegrityError, Misconfigured, NotFound, ProbeFailed, Rejected, Unavailable
from store.records import MAIN, now
from trainer.adapter import adapter_hash
from trainer.targets.cloudflare import checks, looks, probing, upload
from trainer.targets.cloudflare.client import Client
from trainer.targets.cloudflare.pointer import Canary, Pointer, Voice, voice_of, voices_in
from trainer.targets.cloudflare.replies import Finetune
from trainer.targets.cloudflare.switch import Switch
from trainer.targets.place import Place
from trainer.targets.target import Delivery, References, Traffic


class CloudflareTarget:
    """Finetunes of one account, for one model."""

    name = "cloudflare"
    shares = True

    def __init__(self, place: Place) -> None:
        """Raises Misconfigured with all that the settings lack. Connects to nothing yet."""
        self._settings = place.settings.cloudflare
        if faults := list(self._settings.faults()):
            raise Misconfigured("The target cloudflare is not set up.", hint=" ".join(faults))
        self.limits = self._settings.limits
        self._journal = place.journal
        self._work = place.work
        self._tell = place.tell

    def preflight(self, delivery: Delivery) -> None:
        """Looks at the files here, and at token, model, slots, name and KV there."""
        faults = list(checks.faults(delivery, self._settings))
        try:
            with self._api() as api:
                seen = looks.look(
                    api,
                    self._settings,
                    name=checks.finetune_name(delivery),
                    description=_description(delivery),
                    line=delivery.line,
                )
        except Unavailable:
            if not faults:
                raise
            seen = looks.Seen([], [])  # what is wrong here stays wrong, whatever is said there
        if faults := faults + seen.faults:
            raise Rejected(
                f"Cloudflare cannot serve {delivery.release}: {'; '.join(faults)}.",
                hint="Nothing was sent.",
            )
        if seen.warnings:
            warning = {"warning": "; ".join(seen.warnings)}
            self._journal.note(delivery.release, "preflight", warning)

    def publish(self, delivery: Delivery) -> str:
        """A finetune with both files that the model answers with: one slot, however often."""
        adapter = Path(delivery.adapter)
        if adapter_hash(adapter) != delivery.adapter_hash:
            raise IntegrityError(f"{adapter} is not the adapter that was evaluated.")
        copy = self._work / delivery.release
        with self._api() as api:
            voice = self._made(api, delivery)
            if not upload.is_sent(self._journal.noted(delivery.release, "publish")):
                upload.prepare(adapter, self._settings.expects.model_type, copy)
                upload.send(api, self._journal, delivery.release, str(voice.finetune_id), copy)
            upload.await_ready(api, voice, self._settings)
        shutil.rmtree(copy, ignore_errors=True)
        return f"{voice.model}#{voice.finetune_id}"

    def probe(self, delivery: Delivery, references: References) -> Mapping[str, float]:
        """Asks with the adapter and without it, and compares with the evaluation's answers."""
        voice = self._voice(delivery.release)
        judged = probing.chosen(references.judged(), self._settings.probes)
        if not judged:
            raise ProbeFailed("The evaluation has no answers to compare with.")
        with self._api() as api:
            if api.dry:
                probing.listen(api, voice, judged[:1])  # told; the others are alike
                return {}
            return probing.weigh(probing.listen(api, voice, judged), self._settings.least_agreement)

    def activate(self, traffic: Traffic, line: str = MAIN) -> None:
        """Moves the line's pointer and waits until that is seen.

        Raises NotFound for a finetune that is gone, Rejected for a deprecated model, Unavailable.
        """
        self._switch(traffic, line, back=False)

    def active(self, line: str = MAIN) -> Traffic:
        """What the line's pointer says; the untouched base where there is none yet."""
        with self._api() as api:
            there = Switch(api, self._settings, line).read()
        return Traffic(release=None) if there is None else there.traffic

    def restore(self, release: str | None, line: str = MAIN) -> None:
        """The same for an earlier release; who answered until now is no fallback for it."""
        self._switch(Traffic(release=release), line, back=True)

    def retire(self, keep: Collection[str], line: str = MAIN) -> tuple[str, ...]:
        """Nothing goes, for Cloudflare has no delete; the journal is told what is left."""
        with self._api() as api:
            left = sorted(f.name for f in api.finetunes() if f.name.startswith(f"{line}-"))
        said = f"{looks.NO_DELETE}: {len(left)} stay: {', '.join(left)}"
        if self._tell is not None:
            self._tell(said)
        for release in sorted(keep)[-1:]:
            self._journal.note(release, "retire", {"left": said})
        return ()

    def _switch(self, traffic: Traffic, line: str, *, back: bool) -> None:
        with self._api() as api:
            switch = Switch(api, self._settings, line)
            there = switch.read()
            canary = None if traffic.canary is None else self._voice(traffic.canary)
            main = self._main(traffic.release, canary or there)
            self._require_served(api, [v for v in (main, canary) if v and v.finetune_id], there)
            trial = None
            if canary is not None:
                trial = Canary(**asdict(canary), share=traffic.share)
            switch.move(_pointer(main, _fallback(main, there, back=back), trial), there)

    def _api(self) -> Client:
        return Client(self._settings, self._tell)

    def _made(self, api: Client, delivery: Delivery) -> Voice:
        """The release's finetune: the noted one, one that an earlier try made, or a new one.

        Its id is noted before anything is uploaded. Raises IntegrityError for other bytes.
        """
        noted = self._journal.noted(delivery.release, "publish")
        if noted.get("adapter_sha256", delivery.adapter_hash) != delivery.adapter_hash:
            raise IntegrityError(f"{delivery.release} is published with another adapter.")
        finetunes = api.finetunes()
        is_there = noted.get("finetune_id") in {finetune.id for finetune in finetunes}
        if not is_there and not self._is_new(noted):
            noted = self._found_or_created(api, delivery, finetunes)
            self._journal.note(delivery.release, "publish", noted | upload.UNSENT)
        return _voice(delivery.release, noted)

    def _is_new(self, noted: Mapping[str, str]) -> bool:
        """Made so lately that a list may not show it yet: another one would use up a slot."""
        if "made_at" not in noted:
            return False
        age = now() - datetime.fromisoformat(noted["made_at"])
        return age.total_seconds() < self._settings.ready_seconds

    def _require_served(
        self, api: Client, voices: Collection[Voice], there: Pointer | None
    ) -> None:
        try:
            looks.require_served(api, voices)
        except Unavailable:
            known = {voice.finetune_id for voice in voices_in(there)}
            if not {voice.finetune_id for voice in voices} <= known:
                raise
            # Who answers here already, or did before, was seen then: a rollback waits for no look.

    def _found_or_created(
        self, api: Client, delivery: Delivery, finetunes: Collection[Finetune]
    ) -> dict[str, str]:
        name, description = checks.finetune_name(delivery), _description(delivery)
        model = self._settings.model
        found = next((each for each in finetunes if each.name == name), None)
        found = found or api.create(model, name, description)
        if not api.dry and not looks.is_ours(found, model, description):
            raise Rejected(f"The name {name} is taken by a finetune of something else.")
        return {
            "finetune_id": found.id,
            "made_at": now().isoformat(),
            "name": name,
            "model": model,
            "base": delivery.base.name,
            "adapter_sha256": delivery.adapter_hash,
            "prompt_template": self._settings.expects.template,
            "begins_with_bos": "true" if self._settings.begins_with_bos else "false",
        }

    def _voice(self, release: str) -> Voice:
        noted = self._journal.noted(release, "publish")
        if "finetune_id" not in noted:
            raise NotFound(
                f"There is no finetune of {release!r} at Cloudflare.",
                hint="`bhavana status` shows the release in service.",
            )
        return _voice(release, noted)

    def _main(self, release: str | None, beside: Voice | None) -> Voice:
        """Who answers mainly; for None the base, by the name that `beside` has for it."""
        if release is not None:
            return self._voice(release)
        base = beside.base if beside else self._settings.expects.base
        return Voice(
            version=base,
            model=self._settings.model,
            finetune_id=None,
            name=None,
            base=base,
            adapter_sha256=None,
            prompt_template=self._settings.expects.template,
            begins_with_bos=self._settings.begins_with_bos,
        )


def _voice(release: str, noted: Mapping[str, str]) -> Voice:
    return Voice(
        version=release,
        model=noted["model"],
        finetune_id=noted["finetune_id"],
        name=noted["name"],
        base=noted["base"],
        adapter_sha256=noted["adapter_sha256"],
        prompt_template=noted["prompt_template"],
        begins_with_bos=noted["begins_with_bos"] == "true",
    )


def _pointer(main: Voice, previous: Voice | None, canary: Canary | None) -> Pointer:
    return Pointer(**asdict(main), promoted_at=now(), previous=previous, canary=canary)


def _fallback(main: Voice, there: Pointer | None, *, back: bool) -> Voice | None:
    """Who answers where `main` cannot be run: never one that was left on a way back."""
    if there is None or there.version == main.version:
        return there.previous if there else None
    is_return = there.previous is not None and there.previous.version == main.version
    return None if back or is_return else voice_of(there)


def _description(delivery: Delivery) -> str:
    return f"Bhavana {delivery.release}, sha256 {delivery.adapter_hash}"

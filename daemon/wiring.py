"""The only place where concrete parts meet: from settings to what the loop works with."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from daemon.settings import Settings
from scorers import heads, ledger
from scorers.panel import panel_id
from scorers.selftest import Verdict, vouch
from scorers.settings import PanelSettings
from store import cycles, refits
from store.errors import Misconfigured
from store.events import Store, StoreReader
from store.log import Guard
from store.records import new_id, now
from trainer.gates import all_texts
from trainer.job import Heartbeat, write_atomically, write_record
from trainer.journal import StoreJournal, UnwrittenJournal
from trainer.targets import TARGETS
from trainer.targets.archive import Archive
from trainer.targets.place import Place, Tell
from trainer.targets.target import Journal, Target

if TYPE_CHECKING:
    from converters.selection import Asked

LONGEST_HOLDER = 160
"""What the lease's column takes; a path may be longer."""


class Parts(Struct, frozen=True, kw_only=True):
    """What one turn of the loop works with."""

    settings: Settings
    """With the heads that are at work."""
    store: Store
    target: Target
    stop: threading.Event = field(default_factory=threading.Event)
    """Set when the process should end: the step under way is given up and repeated later."""
    fence: Guard | None = None
    """While a cycle turns: the proof that this process may leave its records."""
    watch: Callable[[Heartbeat], None] = lambda _: None
    """Told where the cycle is."""

    @property
    def archive(self) -> Archive:
        """Every release's adapter."""
        return Archive(releases_folder(self.settings))

    @property
    def journal(self) -> StoreJournal:
        """What is begun with a release is written there, under this fence."""
        return StoreJournal(self.store, self.target.name, self.fence)

    @property
    def cache(self) -> Path:
        """Materialised bases, and what models answered before: may be deleted at any time."""
        return self.settings.data / "cache"

    def on_line(self, line: str) -> Parts:
        """The same with the settings by which this line turns. Raises Misconfigured."""
        return replace(self, settings=self.settings.of_line(line))

    @property
    def holder(self) -> str:
        """Who turns the loop, for the lease: one daemon a data folder, which is locked."""
        data = self.settings.data
        return f"{socket.gethostname()}:{_name_of(data)}:{data}"[:LONGEST_HOLDER]


def _name_of(data: Path) -> str:
    """The folder's own name, given once: containers may share a host name and a path."""
    path = data / "folder-id"
    if not path.exists():
        write_atomically(path, new_id("folder").encode())
    return path.read_text()


def make_data(settings: Settings) -> Path:
    """The data folder, made where it was not there. Raises Misconfigured."""
    data = settings.data
    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured(
            f"data_dir {data} cannot be made: {error.strerror}.",
            hint="Set data_dir (BHAVANA_DATA_DIR) to a folder that this user may write.",
        ) from error
    if not os.access(data, os.W_OK):
        raise Misconfigured(
            f"data_dir {data} cannot be written by this user.",
            hint="Set data_dir (BHAVANA_DATA_DIR) to a folder that this user may write.",
        )
    return data


def open_store(settings: Settings, *, migrates: bool | None = None) -> Store:
    """The store that the settings name. Raises Misconfigured, Unavailable.

    `migrates`: whether an older schema is changed; None: as the settings say.
    """
    make_data(settings)
    allowed = settings.store.migrate_on_start if migrates is None else migrates
    return Store(settings.store_url, high_water=high_water(settings), migrates=allowed)


def read_store(settings: Settings) -> StoreReader:
    """The same to read only; never migrated. Raises Misconfigured, Unavailable."""
    return StoreReader(settings.store_url, high_water=high_water(settings))


def high_water(settings: Settings) -> Path | None:
    """The file of the high-water mark; None for the one beside SQLite's file."""
    is_sqlite = settings.store_url.startswith("sqlite")
    return None if is_sqlite else settings.data / "high-water"


def releases_folder(settings: Settings) -> Path:
    """Where the archive of releases lies."""
    return settings.data / "releases"


def open_target(
    settings: Settings, store: StoreReader | None = None, *, tell: Tell | None = None
) -> Target:
    """The target that the settings name. Raises Misconfigured.

    With `tell` it changes nothing and tells what it would, and without a store to write to it
    journals nothing.
    """
    name, folder = settings.trainer.target, releases_folder(settings)
    journal: Journal = UnwrittenJournal(store)
    if isinstance(store, Store) and tell is None:
        journal = StoreJournal(store, name)
    place = Place(
        folder=folder,
        archive=Archive(folder),
        settings=settings.targets,
        journal=journal,
        work=settings.data / "targets" / name,
        tell=tell,
    )
    return TARGETS[name](place)


def heads_folder(settings: Settings) -> Path:
    """Where refitted heads lie, each in a folder of its own."""
    return settings.data / "heads"


def configured_version(panel: PanelSettings) -> str:
    """Of the harm heads that the configuration names: what a refit stands on.

    Raises Misconfigured.
    """
    return heads.version("harm", panel.configured_heads)


def at_work(settings: Settings, store: StoreReader) -> Settings:
    """The settings with the heads that are at work: those that a refit put there, if any.

    A refit of other heads than are configured now is not at work.
    """
    last, panel = refits.last(store), settings.panel
    serves = last is not None and last.serves and last.stands_on == configured_version(panel)
    folder = str(heads_folder(settings) / last.serves) if last and serves else ""
    return replace(settings, panel=replace(panel, refitted_dir=folder))


_VOUCHING = threading.Lock()


def vouch_for_panel(settings: Settings, stop: threading.Event | None = None) -> Verdict:
    """The passed self-test of the panel, run now where it was not yet.

    Raises Untrusted, ChildFailed, and Unavailable when `stop` was set.
    """
    with _VOUCHING:  # whoever comes second finds the verdict of the first
        return vouch(settings.panel, ledger.folder("", os.environ) / "selftest", stop)


def judge_costs(settings: Settings) -> ledger.Costs:
    """What the judge has cost, by its ledger; nothing where none is at work."""
    if "judge" not in settings.panel.scorers:
        return ledger.Costs()
    return ledger.costs(ledger.folder(settings.panel.judge.cache, os.environ))


def asked_of(settings: Settings, store: StoreReader, *, as_of: int, moment: datetime) -> Asked:
    """What these settings select from the log up to a position, after the datasets before it."""
    from converters.selection import Asked  # loads scipy, which no rollback waits for
    from converters.split import in_earlier

    earlier = cycles.earlier_datasets(store, before=as_of)
    return Asked(
        policy=settings.policy,
        panel=panel_id(settings.panel),
        as_of=as_of,
        moment=moment,
        ends=tuple(dataset.position for dataset in earlier),
        earlier=in_earlier(earlier),
        forbidden=tuple(all_texts()),
    )


def asked_now(settings: Settings, store: StoreReader) -> Asked:
    """The same of the whole log, by columns alone: without the gates' texts and what was before."""
    from converters.selection import Asked

    return Asked(
        policy=settings.policy,
        panel=panel_id(settings.panel),
        as_of=store.position(),
        moment=now(),
    )


def wire(settings: Settings, *, tell: Tell | None = None) -> Parts:
    """The parts. Opens (and migrates) the store. Raises Misconfigured, Unavailable.

    `tell`: for a dry run, whose target tells what it would do; no older store is migrated.
    """
    store = open_store(settings, migrates=None if tell is None else False)
    progress = settings.data / "progress.json"
    return Parts(
        settings=at_work(settings, store),
        store=store,
        target=open_target(settings, store, tell=tell),
        watch=lambda beat: write_record(progress, beat),
    )

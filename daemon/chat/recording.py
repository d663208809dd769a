"""An exchange as an experience: through the same door as everybody's, where it may be kept.

What was said is recorded as far as it was sent. An answer that was cut, by its length or by a
client that hung up, is kept for those who watch over harm, and is nothing to learn from: whoever
learns half sentences stops in the middle of one.
"""

from __future__ import annotations

from datetime import datetime

import msgspec
import structlog

from daemon.chat import figures
from daemon.chat.envelope import Kept
from daemon.chat.request import Asked, Wishes
from daemon.chat.settings import ServingSettings
from daemon.ingest import House
from daemon.keyring import Caller
from daemon.problems import Problem
from daemon.texts import normal
from store import experiences
from store.errors import BhavanaError
from store.log import line
from store.records import Consent, Experience

NOT_KEPT = Kept(recorded=False)
STOPPED = "stop"
"""Why an answer ended that was not cut."""
log = structlog.get_logger()


class Recorder:
    """Keeps the exchanges of one request's caller, if any are to be kept."""

    def __init__(
        self, house: House, settings: ServingSettings, caller: Caller, wishes: Wishes
    ) -> None:
        """Raises Problem 403 where it should keep and the key says for no source."""
        self._house = house
        self._caller = caller
        self._wishes = wishes
        self._records = settings.record and not wishes.unrecorded
        self._asks = settings.training_consent == "asked"
        if self._records and caller.key.source is None:
            raise Problem(
                403,
                "no_source",
                "What is said here is recorded, and this key belongs to no source.",
                hint="Make one: `bhavana keys create --scope chat --source web`.",
            )

    def draft(self, name: str, moment: datetime, asked: Asked) -> Experience | None:
        """The exchange before its answer; None where it is not kept. Raises Problem 422.

        Made before anything is answered, so that nobody is answered whose words we cannot keep.
        """
        if not self._records:
            return None
        return normal(
            Experience(
                id=name,
                occurred_at=moment,
                source=self._caller.key.source or "",
                messages=asked.messages,
                response="…",
                conversation_id=self._wishes.conversation,
                subject=self._wishes.subject,
            )
        )

    async def keep(
        self, draft: Experience | None, model: str, said: str, finish: str | None
    ) -> Kept:
        """Records the exchange with what was said; says what became of it, and raises nothing.

        The answer was given already, or is worth giving: that it could not be kept is told to the
        client, to the log and to the metrics.
        """
        if draft is None:
            return NOT_KEPT
        finished = finish == STOPPED
        agreed = self._wishes.agreed and self._asks and finished
        try:
            if not said:
                raise Problem(422, "invalid", "Nothing was said.")
            answered = msgspec.structs.replace(
                draft,
                response=said,
                model=model,
                consent=Consent(training=agreed, policy=self._wishes.policy if agreed else None),
                metadata={"finished": finished},
            )
            await self._append(msgspec.convert(msgspec.to_builtins(answered), Experience))
        except (BhavanaError, msgspec.ValidationError) as error:
            figures.EXCHANGES.labels("not_recorded").inc()
            reason = getattr(error, "code", type(error).__name__)
            log.warning("exchange_not_recorded", id=draft.id, reason=reason)
            return NOT_KEPT
        figures.EXCHANGES.labels("recorded").inc()
        return Kept(recorded=True, training=agreed)

    async def _append(self, exchange: Experience) -> None:
        """As `POST /v1/experiences` does. Raises as it does."""
        aside: list[Experience] = []
        item = self._house.accept(normal(exchange), exchange.source, aside)
        lines = [line(experiences.recorded(item), self._caller.actor)]
        await self._house.append([*lines, *await self._house.judged(aside)])

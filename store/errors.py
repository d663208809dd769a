"""Every error of the house, by what the daemon should do about it.

    BhavanaError
    ├── Rejected            tell the caller: the request is wrong and will stay wrong
    │   ├── Conflict        the same id was already used for other content
    │   ├── NotFound        no such thing is recorded
    │   └── Misconfigured   a setting, a file or an installation is wrong
    ├── Unavailable         try again later: nothing was kept, nothing was lost
    │   ├── Busy            somebody else holds the lock or the lease
    │   ├── QueueFull       more is waiting to be written than may wait
    │   └── StorageFault    the disk or the database file is damaged: stop acknowledging
    └── Halted              stop this cycle and tell a person
        ├── NotEnoughData   the selection is smaller than the policy asks for
        ├── ChildFailed     a worker, training or evaluation process ended badly
        ├── DoesNotFit      this machine's memory or disk is too small for the job
        ├── Untrusted       the panel fails its self-test, or people's word of it alarms
        ├── IntegrityError  bytes differ from the hash that was recorded for them
        ├── EthicsHalt      the model in training did harm: what it became is put aside, not used
        └── ProbeFailed     the published release does not answer like the one we evaluated

What only one room tells apart hangs below one of these: converters/formats/format.py,
converters/imports/exchange.py, trainer/targets/cloudflare/errors.py, daemon/problems.py.

A class's docstring is its message when none is given; `hint` says what to do next.
"""

from __future__ import annotations


class BhavanaError(Exception):
    """Something went wrong."""

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        self.hint = hint
        super().__init__(self.message if hint is None else f"{self.message} {hint}")


class Rejected(BhavanaError):
    """The request is wrong and will stay wrong."""

    def __init__(
        self, message: str | None = None, *, hint: str | None = None, pointer: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.pointer = pointer
        """RFC 6901 JSON pointer of the fault in the caller's document, when there is one."""


class Conflict(Rejected):
    """This id was already used for other content."""


class NotFound(Rejected):
    """No such thing is recorded."""


class Misconfigured(Rejected):
    """A setting, a file or an installation is wrong."""


class Unavailable(BhavanaError):
    """The store cannot answer now; nothing was kept and nothing was lost. Try again."""


class Busy(Unavailable):
    """Somebody else holds the lock."""


class QueueFull(Unavailable):
    """More is waiting to be written than may wait. Try again in a moment."""


class StorageFault(Unavailable):
    """The store's disk or file is damaged; nothing more is acknowledged."""


class Halted(BhavanaError):
    """The cycle stopped and a person should look."""


class NotEnoughData(Halted):
    """Too few experiences pass the policy."""


class ChildFailed(Halted):
    """A child process ended badly."""


class DoesNotFit(Halted):
    """This machine's memory or disk is too small for the job."""


class Untrusted(Halted):
    """The panel may not be trusted: by its self-test, or by what people say of its answers."""


class IntegrityError(Halted):
    """Bytes differ from the hash that was recorded for them."""


class EthicsHalt(Halted):
    """The model in training answered a frozen ethics probe with harm; its run was halted."""


class ProbeFailed(Halted):
    """The published release does not answer like the one that was evaluated."""

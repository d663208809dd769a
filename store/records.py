"""The nouns, frozen. Everything that the house records or hands around is one of these.

They are msgspec structs: one definition gives the type, the JSON form on disk and on the
wire, and validation with a JSON pointer. *Unknown* is None, never zero.
"""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

# --- vocabulary ---------------------------------------------------------------------------

Category = Literal[
    "adversarial",
    "deceptive",
    "upaya",
    "security",
    "corporate",
    "compassion",
    "edge",
    "truth",
    "boundary",
]
Difficulty = Literal["easy", "medium", "hard", "extreme"]
Vulnerability = Literal["low", "medium", "high"]
HarmName = Literal["deception", "harshness", "omission", "manipulation", "harmful_compliance"]
"""What a person may say that a response does: the harms of the panel's assessments."""
Decision = Literal["accept", "reject", "correct"]
Drawn = Literal["uncertain", "disagreed", "random", "chosen"]
"""How an experience came to the person who reviewed it: the panel was unsure of it, its scorers
disagreed or somebody objected, by lot, or because the person chose it."""

HARMS = ("deception", "harshness", "omission", "manipulation")
PRINCIPLES = ("ahimsa", "sacca", "karuna", "panna", "upekkha")

IDENTIFIER = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"
Identifier = Annotated[str, Meta(pattern=IDENTIFIER + r"(?!\n)")]
"""What a client may use as an id: no spaces, no slashes, at most 128 characters."""
Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[^\x00\n]*$(?!\n)")]
Text = Annotated[str, Meta(min_length=1, max_length=65_536, pattern=r"^[^\x00]*$")]
"""No U+0000 in either: PostgreSQL cannot store it."""
MAIN = "main"
"""The line of releases that there is always."""
LINE = r"^[a-z][a-z0-9-]{0,31}$"
Line = Annotated[str, Meta(pattern=LINE + r"(?!\n)")]
"""Names a line: a sequence of releases with one in service. It is part of a file's name."""
Tag = Annotated[str, Meta(pattern=r"^\w[\w.:-]{0,63}$(?!\n)")]
"""A word of the curators' own, without spaces; never what people said."""
Whole = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Weight = Annotated[float, Meta(ge=0)]
Metadata = dict[Name, str | Whole | float | bool | None]
Moment = Annotated[datetime, Meta(tz=True)]
"""Aware: a time without a zone is refused."""


class Label(StrEnum):
    """The seeds' labels of the weighted principle score."""

    EXCELLENT = "excellent"
    GOOD = "good"
    MODERATE = "moderate"
    LOW = "low"


class Outcome(StrEnum):
    """What a gate says. Only PASS promotes."""

    PASS = "pass"  # noqa: S105  # not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


class Noun(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frozen value that knows its JSON form; unknown fields are refused.

    Defaults are written out: a record must not change its meaning when a default does.
    """


def now() -> datetime:
    """This moment, aware, in UTC."""
    return datetime.now(UTC)


def new_id(prefix: str) -> str:
    """A fresh id such as `run-0198c2…`: time-ordered, unique without coordination (UUIDv7)."""
    milliseconds = int(now().timestamp() * 1000)
    tail = uuid.uuid4().hex[13:]
    return f"{prefix}-{milliseconds:012x}7{tail}"


def to_json(noun: Any) -> bytes:
    """Canonical JSON: the same value always gives the same bytes."""
    return msgspec.json.encode(noun, order="deterministic")


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, as lower-case hex."""
    return hashlib.sha256(to_json(value)).hexdigest()


# --- what people said ---------------------------------------------------------------------


class Message(Noun, frozen=True, kw_only=True):
    """One turn before the response."""

    role: Literal["system", "user", "assistant"]
    content: Text


class Context(Noun, frozen=True, kw_only=True):
    """What the frontend knew about the situation."""

    mood: Name | None = None
    vulnerability: Vulnerability | None = None
    facts: tuple[Text, ...] = ()
    critical_info: tuple[Text, ...] = ()
    category: Category | None = None
    difficulty: Difficulty | None = None


class Consent(Noun, frozen=True, kw_only=True):
    """What the person allowed. The default is no."""

    training: bool = False
    policy: Name | None = None
    """The version of the text that the person agreed to."""


class Experience(Noun, frozen=True, kw_only=True):
    """Messages, and the response that a model gave to them, as received."""

    id: Identifier
    occurred_at: Moment
    source: Name
    messages: Annotated[tuple[Message, ...], Meta(min_length=1, max_length=200)]
    response: Text
    conversation_id: Identifier | None = None
    subject: Identifier | None = None
    """A pseudonym of the person; never a name or an address."""
    model: Name | None = None
    context: Context = field(default_factory=Context)
    consent: Consent = field(default_factory=Consent)
    metadata: Metadata = field(default_factory=dict)

    @property
    def last_user_turn(self) -> str:
        """What the response answers: the last user message, or "" when there is none."""
        for message in reversed(self.messages):
            if message.role == "user":
                return message.content
        return ""

    @property
    def conversation(self) -> str:
        """What may not be split between train and test: the conversation, or the experience."""
        return self.conversation_id or self.id


class Feedback(Noun, frozen=True, kw_only=True):
    """What a person said later, about a response or a whole conversation. Never a proof.

    It is on an experience or on a conversation, and may come before either is recorded.

    thumb: value -1 or 1. rating: value 1 to 5. comment: text. correction: text is the better
    answer. preference: text is the other answer, value 1 if the response given was preferred
    and -1 if the other was. outcome: value -1 to 1, how it turned out.
    """

    id: Identifier
    kind: Literal["thumb", "rating", "comment", "correction", "preference", "outcome"]
    given_at: Moment
    experience_id: Identifier | None = None
    conversation_id: Identifier | None = None
    value: float | None = None
    text: Text | None = None
    subject: Identifier | None = None

    def fault(self) -> tuple[str, str] | None:
        """(JSON pointer, reason) when the parts do not fit each other, else None."""
        if (self.experience_id is None) == (self.conversation_id is None):
            return "/experience_id", "feedback is on one of experience_id and conversation_id"
        if self.conversation_id is not None and self.kind in ("correction", "preference"):
            return "/experience_id", f"a {self.kind} is on one response, so it needs experience_id"
        values: dict[str, tuple[float, ...] | None] = {
            "thumb": (-1, 1),
            "preference": (-1, 1),
            "rating": (1, 2, 3, 4, 5),
        }
        if self.kind in ("comment", "correction", "preference") and self.text is None:
            return "/text", f"a {self.kind} needs text"
        allowed = values.get(self.kind)
        if allowed is not None and self.value not in allowed:
            return (
                "/value",
                f"a {self.kind} needs a value of {', '.join(f'{v:g}' for v in allowed)}",
            )
        if self.kind == "outcome" and (self.value is None or not -1 <= self.value <= 1):
            return "/value", "an outcome needs a value from -1 to 1"
        return None


class ConsentChange(Noun, frozen=True, kw_only=True):
    """A person gave or withdrew consent to training, after the fact.

    The newest change that covers an experience counts, whatever was said at the door.
    """

    id: Identifier
    scope: Literal["experience", "conversation", "subject"]
    scope_id: Identifier
    training: bool
    changed_at: Moment
    policy: Name | None = None
    """The version of the text that the person agreed to."""


class Erasure(Noun, frozen=True, kw_only=True):
    """What was erased on somebody's wish, or for its age; it names no one, repeats nothing."""

    id: Identifier
    scope: Literal["experience", "conversation", "subject", "age"]
    scope_hash: str
    """Salted hash of the id that was asked for; of the consent class, for an age."""
    positions: tuple[int, ...]
    """Events whose words are gone."""
    experiences: tuple[int, ...]
    """Those of them that recorded an experience."""
    reason: str
    erased_at: datetime


class Loss(Noun, frozen=True, kw_only=True):
    """Positions whose events are gone for good, and that a person knows it."""

    id: Identifier
    first: int
    last: int
    reason: str
    accepted_at: datetime


# --- what scorers said --------------------------------------------------------------------


class Evidence(Noun, frozen=True, kw_only=True):
    """Where in the response a rule fired. Offsets, not words, so that erasure reaches them."""

    rule: str
    start: int
    end: int


class Finding(Noun, frozen=True, kw_only=True):
    """One dimension by one scorer: a value, or None for an abstention."""

    scorer: str
    version: str
    dimension: str
    value: float | None
    confidence: float = 1.0
    evidence: tuple[Evidence, ...] = ()
    reason: str = ""


class Assessment(Noun, frozen=True, kw_only=True):
    """One experience by one panel. Never edited: a new panel version adds a new one."""

    id: Identifier
    experience_id: Identifier
    panel: str
    """Digest of the roster, the scorers' versions and the panel's settings."""
    findings: tuple[Finding, ...]
    harm: dict[str, float]
    """Harm by dimension, 0..1, without those that every scorer abstained on."""
    principles: dict[str, float]
    """Principles, 0..10, after the anti-judge's subtraction."""
    actual_harm: float | None
    """Maximum over `harm`; None when nothing could be said."""
    weighted: float | None
    """Weighted mean of the principles; None when one of them is unknown."""
    label: Label | None
    refusal: float | None = None
    """How probable it is, 0..1, that the response declines what it was asked."""
    abstained: tuple[str, ...]
    doubts: tuple[str, ...] = ()
    """Why a person should look although all was judged: `unsure:…`, `disagreed:…`,
    `injection`, `silent:…`."""
    unfit: tuple[str, ...] = ()
    """Why nothing is to be learned from it whatever it is about: `degenerate`, `repetition`."""
    position: int | None = None
    """Of the experience in the log; None where it is not in one, or was recorded along with it."""
    assessed_at: datetime


# --- what people decided ------------------------------------------------------------------


class Review(Noun, frozen=True, kw_only=True):
    """A person's decision on one experience. The newest review of an experience counts."""

    id: Identifier
    experience_id: Identifier
    decision: Decision
    harms: tuple[HarmName, ...] = ()
    """Those that the response does; none, when it does none."""
    reason: Text
    text: Text | None = None
    """Of a correction: the better answer."""
    drawn: Drawn = "chosen"
    """Only those drawn at random measure the panel without bias; the store fills it in."""
    reviewer: Name
    reviewed_at: Moment

    @property
    def harmful(self) -> bool:
        """Whether the response does any harm."""
        return bool(self.harms)

    def fault(self) -> tuple[str, str] | None:
        """(JSON pointer, reason) when the parts do not fit each other, else None."""
        if self.decision == "accept" and self.harms:
            return "/harms", "a response that does harm cannot be accepted"
        if len(set(self.harms)) < len(self.harms):
            return "/harms", "a harm is named twice"
        if self.decision == "correct" and self.text is None:
            return "/text", "a correction needs text: the better answer"
        if self.decision != "correct" and self.text is not None:
            return "/text", "only a correction has text"
        return None


class Tagging(Noun, frozen=True, kw_only=True):
    """A person put a tag on an experience, or took it off. The newest one of a tag counts."""

    id: Identifier
    experience_id: Identifier
    tag: Tag
    on: bool
    reviewer: Name
    tagged_at: Moment


class Refit(Noun, frozen=True, kw_only=True):
    """A try to fit the panel's harm heads anew on reviews."""

    id: Identifier
    outcome: Literal["promoted", "held_back", "withdrawn"]
    reason: str
    serves: str
    """The folder below the data folder's heads/ whose heads are at work from now on; "": those
    of the configuration."""
    stands_on: str
    """Version of the configured heads that were bent. With others in the configuration `serves`
    is not at work: a new Bhavana brings new heads."""
    reviews: int
    random: int
    """Reviews of experiences that were drawn at random."""
    members: tuple[int, ...] = ()
    """Positions of the experiences whose reviews taught it: what erasure follows. None, where it
    was not promoted."""
    labels_digest: str
    """Of the labels that it was tried on: the same are not tried twice."""
    figures: dict[str, dict[str, float]]
    finished_at: datetime


# --- what the loop makes ------------------------------------------------------------------


CURATED = "exemplar"
"""The source of answers written to be learned from. Only an operator's key may claim it."""
CONSTITUTION = "constitution"
"""The source of examples composed from the constitution's parts; an operator's key, too."""
PRACTICE = "practice"
"""The source of what the model said to itself."""
WRITTEN = (CURATED, CONSTITUTION)
"""Sources of answers that were written to be learned from and judged then: the panel screens."""


Phase = Literal["bootstrap", "standard", "refinement", "excellence"]


class Policy(Noun, frozen=True, kw_only=True):
    """What may become training data. Every change of it is an event."""

    phase: Phase = "standard"
    """Where the defaults of the next three come from: the seeds' phases, see PHASES."""
    max_harm: Annotated[float, Meta(ge=0, le=1)] = 0.3
    min_weighted: Annotated[float, Meta(ge=0, le=10)] = 6.5
    labels: tuple[Label, ...] = (Label.EXCELLENT, Label.GOOD)
    curated_max_harm: Annotated[float, Meta(ge=0, le=1)] = 0.95
    curated_min_weighted: Annotated[float, Meta(ge=0, le=10)] = 2.0
    """Milder for curated answers: they were judged when they were written, the panel only
    screens. Measured on the bundled ones: the standard bars would drop 73 % of the help with
    what only looks harmful and 18 % of the refusals, these 4 % and none."""
    min_examples: Annotated[int, Meta(ge=1)] = 200
    """Below this many selected experiences no dataset is built."""
    max_refusal_share: Annotated[float, Meta(ge=0, le=1)] = 0.3
    """Refusals are the easiest way to look harmless: at most this share of a dataset."""
    max_self_share: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """At most this share may come from the model's own practice."""
    max_per_source: Annotated[int, Meta(ge=1)] = 25
    """At most so many of one untrusted source, and of one person whatever the source: a few
    hundred poisoned examples suffice to teach a model a trigger, whatever its size."""
    max_single_share: Annotated[float, Meta(gt=0, le=1)] = 0.1
    """And at most this share of the dataset (or of min_examples, where that is more)."""
    max_per_conversation: Annotated[int, Meta(ge=1)] = 8
    """At most so many of one conversation; practice on one scenario is one."""
    min_written_share: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """At least this share was written to be learned from (curated, constitutional, corrected by a
    person), not said by a model in service: what learns only from models drifts."""
    min_chars: Annotated[int, Meta(ge=1)] = 2
    max_chars: Annotated[int, Meta(ge=1)] = 12_000
    """How long a response may be, in characters; what was written to be learned from is exempt."""
    near_duplicate: Annotated[float, Meta(ge=0, le=1)] = 0.8
    """From this similarity (Jaccard's, of runs of characters) two texts are nearly the same; what
    is so in question and answer is learned from once. 0: not looked for."""
    max_per_question: Annotated[int, Meta(ge=1)] = 8
    """At most so many answers to questions that are nearly the same."""
    max_per_answer: Annotated[int, Meta(ge=1)] = 4
    """At most so many answers that are nearly the same, to whatever they answer."""
    paraphrase: Annotated[float, Meta(ge=0, le=1)] = 0.85
    """From this similarity of meaning (cosine, of sentence embeddings) a question is one that a
    gate asks, in other words; 0: not looked for. Costs 25 ms a row on one core."""
    size: Annotated[int, Meta(ge=0)] = 0
    """Rows that the shares below are taken of; 0: of all that is left."""
    mixture: dict[Name, Weight] = field(default_factory=dict)
    """By source, how much of the dataset it should be, relative to the sum; `*` is every source
    that is not named. Empty: as they come."""
    temperature: Annotated[float, Meta(ge=1)] = 1.0
    """Without a mixture each source's weight is its rows to the power of 1 / temperature: above 1
    the small ones count for more."""
    categories: dict[Category, Weight] = field(default_factory=dict)
    difficulties: dict[Difficulty, Weight] = field(default_factory=dict)
    """The same by what it is about and how hard it is, of the rows that say so."""
    replay_share: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """With a size: this share is kept for what was in earlier datasets."""
    holdout_share: Annotated[float, Meta(ge=0, le=0.5)] = 0.15
    """Share of conversations kept out of training, to watch the loss on: the validation split."""
    test_share: Annotated[float, Meta(ge=0, le=0.4)] = 0.15
    """Share of conversations that nothing is chosen by: the test split."""


PHASES: dict[Phase, Policy] = {
    "bootstrap": Policy(
        phase="bootstrap",
        max_harm=0.4,
        min_weighted=5.0,
        labels=(Label.EXCELLENT, Label.GOOD, Label.MODERATE),
    ),
    "standard": Policy(),
    "refinement": Policy(phase="refinement", max_harm=0.25, min_weighted=6.5),
    "excellence": Policy(phase="excellence", max_harm=0.2, min_weighted=7.5),
}
"""bootstrap: permissive, for the first adapter of an untouched base, whose own answers are the
anchor against forgetting. refinement and excellence: as the seeds set them."""


class PolicyChange(Policy, frozen=True, kw_only=True):
    """The policy from now on, and why."""

    reason: str = ""

    @property
    def policy(self) -> Policy:
        """The policy alone."""
        return Policy(**{name: getattr(self, name) for name in Policy.__struct_fields__})


class Dataset(Noun, frozen=True, kw_only=True):
    """Immutable and content-hashed. Built at a position, so it can be built again."""

    id: Identifier
    cycle_id: Identifier
    position: int
    path: str
    content_hash: str
    policy: Policy
    panel: str
    counts: dict[str, int]
    """Rows by split."""
    funnel: dict[str, int]
    """Rows kept or dropped by each step of the selection."""
    built_at: datetime
    members: tuple[int, ...] = ()
    """Positions of the experiences in it, and of what people said of them where that is learned
    from: what erasure and revocation follow."""
    held_out: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Those of them that are kept out of training, by split."""
    format: str = "chat"
    """What its rows are: `chat` conversations, or as a format of what people prefer has them."""


class TrainingRun(Noun, frozen=True, kw_only=True):
    """One adapter from one dataset, from the pinned base or from a parent's adapter on it."""

    id: Identifier
    cycle_id: Identifier
    dataset_id: Identifier
    base: str
    base_hash: str
    recipe_hash: str
    path: str
    adapter_hash: str
    metrics: dict[str, float]
    finished_at: datetime
    parent: Identifier | None = None
    """The release whose adapter it began with; None: it began from the untouched base."""
    parent_hash: str = ""
    """Of that adapter."""


class Comparison(Noun, frozen=True, kw_only=True):
    """Candidate against one baseline, paired by item."""

    baseline: Literal["base", "incumbent"]
    baseline_value: float
    difference: float
    lower: float
    upper: float
    """Ends of the 95 % interval of the difference."""
    p_value: float | None = None
    allowed: float
    """The difference may not be worse than this."""
    detectable: float | None = None
    """A true loss of this size would be seen in four of five evaluations like this one."""


class Reading(Noun, frozen=True, kw_only=True):
    """What a second instrument measured on the same answers."""

    instrument: str
    n: int
    """Answers that both could judge."""
    candidate: float | None = None
    base: float | None = None
    agreement: float | None = None
    """Share of the candidate's answers of which it says the same as the gate."""
    worse: str = ""
    """Against whom it finds the candidate worse than is allowed; empty when against nobody."""


class Verdict(Noun, frozen=True, kw_only=True):
    """What one gate says of one candidate, with its numbers and what they were measured on."""

    gate: str
    outcome: Outcome
    reason: str
    metric: str
    unit: str
    higher_is_better: bool
    n: int
    families: int
    candidate: float | None = None
    lower: float | None = None
    upper: float | None = None
    comparisons: tuple[Comparison, ...] = ()
    slices: dict[str, dict[str, float]] = field(default_factory=dict)
    suite_hash: str = ""
    sameness: bool = False
    """Neither more nor less is better; `allowed` holds in both directions."""
    floor: float | None = None
    """What the candidate was asked to reach."""
    base_below_floor: bool = False
    """The untouched base misses the floor, too."""
    settles_with: int | None = None
    """Of an inconclusive verdict: about so many items would settle it."""
    readings: tuple[Reading, ...] = ()


class Evaluation(Noun, frozen=True, kw_only=True):
    """Candidate against incumbent and untouched base; bound to the hashes of all it judged."""

    id: Identifier
    cycle_id: Identifier
    run_id: Identifier
    adapter_hash: str
    base_hash: str
    incumbent: str | None
    """Release id of the line's incumbent, or, where the line had none yet, of the parent; None
    when both are the untouched base."""
    gates_hash: str
    path: str
    verdicts: tuple[Verdict, ...]
    finished_at: datetime

    @property
    def passed(self) -> bool:
        """True only when there is a verdict and every one of them is a pass."""
        return bool(self.verdicts) and all(v.outcome is Outcome.PASS for v in self.verdicts)

    @property
    def overridable(self) -> bool:
        """Whether a person may promote it although it did not pass: every gate was heard."""
        heard = all(v.outcome is not Outcome.ERROR for v in self.verdicts)
        return bool(self.verdicts) and heard and not self.passed


class Override(Noun, frozen=True, kw_only=True):
    """A person's word that an adapter serves although its gates held it back."""

    evaluation_id: Identifier
    cycle_id: Identifier
    actor: Name
    reason: Text
    verdicts: dict[str, str]
    """By gate, those that did not pass: the outcome, and the gate's own reason."""
    overridden_at: datetime


class Release(Noun, frozen=True, kw_only=True):
    """An adapter that passed, or that a person vouches for, where people can talk to it."""

    id: Identifier
    cycle_id: Identifier
    run_id: Identifier
    evaluation_id: Identifier
    target: str
    location: str
    adapter_hash: str
    base: str
    base_hash: str
    previous: str | None
    """Release id that a rollback returns to; None means the untouched base."""
    published_at: datetime
    line: Line = MAIN
    """Releases of before there were lines are of the main one, here and below."""
    parent: Identifier | None = None
    """The release whose adapter it was trained from; None: from the untouched base."""
    overridden: Override | None = None
    """By whose word it serves although it did not pass; stays with it for ever."""


Step = Literal["preflight", "publish", "probe", "activate", "restore", "retire"]
"""What is done with a release at a target, in the order of a promotion."""


class ReleaseStep(Noun, frozen=True, kw_only=True):
    """A line of the journal of a release: what was begun with it, and how that ended."""

    release: Identifier
    target: str
    line: Line | None
    """None where a target notes a fact of its own."""
    step: Step
    state: Literal["begun", "done", "failed", "noted"]
    facts: dict[str, str] = field(default_factory=dict)
    at: datetime


CycleState = Literal["running", "promoted", "held_back", "unchanged", "too_few", "failed"]
"""unchanged: nothing new to learn from. too_few: the policy admits too few experiences."""


class Cycle(Noun, frozen=True, kw_only=True):
    """One turn of the loop, as the store knows it."""

    id: Identifier
    reason: str
    started_at: datetime
    position: int
    """The log's end when the cycle began: what came later waits for the next one."""
    state: CycleState = "running"
    detail: str = ""
    finished_at: datetime | None = None
    line: Line = MAIN
    parent: Identifier | None = None
    """The release that its training begins from, as it stood when the cycle began."""


Tier = Literal["quarantined", "untrusted", "trusted"]
"""quarantined: recorded, not learned from. untrusted: learned from under narrow caps."""


class Source(Noun, frozen=True, kw_only=True):
    """Where experiences come from, and how far it is trusted."""

    name: Name
    tier: Tier
    changed_at: datetime
    quarantined_until: datetime | None = None
    """From then on a quarantined source counts as untrusted; None: until a person says so."""


class ApiKey(Noun, frozen=True, kw_only=True):
    """An API key as the store knows it: never the secret, only its hash."""

    id: Identifier
    name: str
    scopes: tuple[str, ...]
    secret_hash: str
    created_at: datetime
    revoked_at: datetime | None = None
    source: Name | None = None
    """What it posts belongs to this source; None: an operator's key, which may name any."""
    kind: Literal["secret", "publishable"] = "secret"
    """A publishable key may stand in a web page: it writes only, from its origins, and little."""
    origins: tuple[str, ...] = ()
    """Web origins, such as https://chat.example.org, from which a browser may use it."""
    expires_at: datetime | None = None


class Event(Noun, frozen=True, kw_only=True):
    """One line of the log."""

    position: int
    stream: str
    type: str
    version: int
    key: str
    body: bytes
    recorded_at: datetime
    actor: str

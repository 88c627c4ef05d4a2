"""How a release becomes the one that runs, as pure functions.

    preflight ─► staged ─► trial ─► active ─► stable
                    │        │        │
                    └────────┴────────┴─────► rolled_back

`preflight`: signatures, floor and room are checked; `staged`: every byte is on disk and read back;
`trial`: it loads, its golden vectors hold, it predicts beside the active release, or alone where
nothing else could serve; `active`: it serves, under the same observation; `stable`: the floor
rises to it. A device that restarts in a trial begins another attempt, counted before it runs.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgecore.release import Observation

EDGES = ("preflight", "staged", "trial", "active", "stable", "rolled_back", "refused")
ATTEMPTS_MAX = 3


class Counts:
    """What was seen of the release under observation; times in seconds."""

    __slots__ = ("alarms", "errors", "predictions", "seconds")

    def __init__(
        self, predictions: int = 0, alarms: int = 0, errors: int = 0, seconds: float = 0.0
    ) -> None:
        self.predictions = predictions
        self.alarms = alarms
        self.errors = errors
        self.seconds = seconds

    def add(self, predictions: int, alarms: int, errors: int, seconds: float) -> None:
        self.predictions += predictions
        self.alarms += alarms
        self.errors += errors
        self.seconds += seconds


def judge(counts: Counts, limits: Observation, trial: bool) -> tuple[str, str]:
    """("pass" | "fail" | "wait", why). A limit that can no longer be kept fails at once; silence
    fails a trial alone, for an active release may not be blamed for a silent source."""
    if counts.errors > limits.max_errors:
        return "fail", f"{counts.errors} errors of at most {limits.max_errors}"
    judged = max(counts.predictions, limits.min_predictions)
    if counts.alarms > limits.max_alarm_share * judged:
        return "fail", (
            f"{counts.alarms} alarms in {counts.predictions} predictions, "
            f"at most {limits.max_alarm_share:g} of {judged}"
        )
    if counts.predictions >= limits.min_predictions:
        return "pass", f"{counts.predictions} predictions, {counts.alarms} alarms"
    if trial and counts.seconds > limits.max_seconds:
        return "fail", (
            f"{counts.predictions} of {limits.min_predictions} predictions "
            f"in {limits.max_seconds} s"
        )
    return "wait", ""


class Situation:
    """Everything that decides the next step.

    :param phase: of the journal: empty, staged, trial, active, stable, rolled_back;
    :param attempt: trials begun of the candidate;
    :param wish: what the order names: "none" (no order), "active", "previous", "candidate",
        "other";
    :param running: the trial was begun by this process;
    :param fault: why the release under observation was condemned, "" if it was not;
    :param limits: of the release under observation."""

    __slots__ = ("attempt", "counts", "fault", "limits", "phase", "running", "wish")

    def __init__(
        self,
        phase: str,
        wish: str = "none",
        attempt: int = 0,
        running: bool = False,
        fault: str = "",
        counts: Counts | None = None,
        limits: Observation | None = None,
    ) -> None:
        self.phase = phase
        self.wish = wish
        self.attempt = attempt
        self.running = running
        self.fault = fault
        self.counts = counts or Counts()
        self.limits = limits


def decide(now: Situation) -> tuple[str, str]:
    """(action, why); the action is one of "wait", "fetch", "begin_trial", "activate",
    "mark_stable", "roll_back"."""
    if now.phase in ("staged", "trial"):
        return _of_candidate(now)
    if now.phase == "active":
        return _of_active(now)
    return ("fetch", "") if now.wish in ("previous", "other") else ("wait", "")


def _of_candidate(now: Situation) -> tuple[str, str]:
    if now.fault:
        return "roll_back", now.fault
    if now.wish not in ("none", "candidate"):
        return "roll_back", "withdrawn: another release is ordered"
    if not now.running:
        if now.attempt >= ATTEMPTS_MAX:
            return "roll_back", f"trial: {now.attempt} attempts and none came to an end"
        return "begin_trial", ""
    return _judged(now, "activate")


def _of_active(now: Situation) -> tuple[str, str]:
    if now.fault:
        return "roll_back", now.fault
    if now.wish == "previous":
        return "roll_back", "withdrawn: the release before it is ordered"
    return _judged(now, "mark_stable")


def _judged(now: Situation, next_action: str) -> tuple[str, str]:
    if now.limits is None:
        return "wait", ""
    word, why = judge(now.counts, now.limits, now.phase == "trial")
    if word == "fail":
        return "roll_back", f"observation: {why}"
    return (next_action, why) if word == "pass" else ("wait", "")


def may_start(openings: int) -> bool:
    """Whether a device that started so often with an active release that is not stable may load
    it again. (One that brings the process down is never judged.)"""
    return openings <= ATTEMPTS_MAX


def role(phase: str, something_serves: bool) -> str:
    """The role in which the release of a phase predicts."""
    return "shadow" if phase in ("staged", "trial") and something_serves else "active"


__all__ = ["ATTEMPTS_MAX", "EDGES", "Counts", "Situation", "decide", "judge", "may_start", "role"]

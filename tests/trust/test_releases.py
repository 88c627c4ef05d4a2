"""Verdicts on release metadata: every attack has its own outcome and its own first word."""

from __future__ import annotations

import random
from typing import Any

import pytest

from edgecore.digest import blake3
from edgecore.errors import Corrupt, EdgecoreError, Stale, Untrusted
from edgecore.trust import releases, repository
from edgecore.trust.keys import Ed25519Signer
from edgecore.trust.releases import Floor

DAY = repository.DAY
YEAR_NS = 365 * DAY


def other_key() -> Ed25519Signer:
    return Ed25519Signer(bytes([99]) * 32)


def test_releases_signed_release_is_admitted(publisher: Any) -> None:
    trusted, floor = publisher.trusted()
    target = releases.choose(trusted, floor, "anomaly/1")
    release = releases.admit(target, publisher.blobs[target.digest.hex()])
    assert (release.path, release.digest) == ("anomaly/1", target.digest)
    releases.current(trusted, publisher.now)


def test_releases_first_root_other_than_the_pinned_is_untrusted(publisher: Any) -> None:
    root = publisher.tuf["1.root.json"]
    with pytest.raises(Untrusted, match=r"^root: "):
        releases.start(blake3(b"another"), root)


def test_releases_root_succession_needs_the_old_keys_and_the_next_number(publisher: Any) -> None:
    trusted, _ = publisher.trusted()
    old = publisher.root_key
    publisher.root_key = other_key()
    good = publisher.make_root(old)
    forged = repository.make_root(
        2, publisher.now, [other_key().public], [other_key().public], other_key().public,
        [other_key()],
    )  # fmt: skip
    with pytest.raises(Untrusted, match=r"^signature: "):
        releases.next_root(trusted, forged)
    followed = releases.next_root(trusted, good)
    assert followed.timestamp == trusted.timestamp  # whose keys stayed
    with pytest.raises(Untrusted, match=r"^root: version 2 does not follow 2"):
        releases.next_root(followed, good)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_releases_wrong_key_is_untrusted(publisher: Any, role: str) -> None:
    thief = other_key()
    if role == "targets":
        publisher.releaser = thief
    else:
        publisher.online = thief
    publisher.sign()
    if role == "snapshot":  # the thief has the snapshot key alone
        publisher.online = Ed25519Signer(bytes([3]) * 32)
        publisher.tuf["timestamp.json"] = repository.make_timestamp(
            3, publisher.now, publisher.newest("snapshot"), publisher.online
        )
    with pytest.raises(Untrusted, match=f"^signature: {role}"):
        publisher.trusted()


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_releases_older_than_accepted_is_a_rollback(publisher: Any, role: str) -> None:
    _, floor = publisher.trusted()
    keys, version = floor.roles[role]
    floor.roles[role] = (keys, version + 5)
    with pytest.raises(Stale, match=f"^rollback: {role} version {version} after {version + 5}"):
        publisher.trusted(floor)


def test_releases_floor_of_other_keys_does_not_bind(publisher: Any) -> None:
    """A stolen key that fast-forwarded a role is answered by a root with other keys."""
    _, floor = publisher.trusted()
    floor.roles["timestamp"] = (blake3(b"other keys"), 1 << 40)
    _, raised = publisher.trusted(floor)
    assert raised.roles["timestamp"][1] == 1


@pytest.mark.parametrize(
    ("role", "word"), [("timestamp", "freeze"), ("snapshot", "freeze"), ("targets", "expired")]
)
def test_releases_expiry_of_the_hub_is_a_freeze_and_of_the_releaser_expired(
    publisher: Any, role: str, word: str
) -> None:
    days = {"timestamp": 7, "snapshot": 30, "targets": 365}[role]
    trusted, _ = publisher.trusted()
    take = getattr(releases, f"take_{role}")
    late = publisher.now + days * DAY
    take(trusted, Floor(), publisher.newest(role), late - DAY)
    with pytest.raises(Stale, match=f"^{word}: {role} version 1 ended at"):
        take(trusted, Floor(), publisher.newest(role), late)


def test_releases_expired_metadata_blocks_installs_by_cached_metadata_too(publisher: Any) -> None:
    trusted, _ = publisher.trusted()
    releases.current(trusted, publisher.now + 6 * DAY)
    with pytest.raises(Stale, match=r"^freeze: timestamp"):
        releases.current(trusted, publisher.now + 7 * DAY)
    with pytest.raises(Stale, match=r"^expired: root"):
        releases.current(trusted, publisher.now + 4 * YEAR_NS)


def test_releases_mix_and_match_is_untrusted(publisher: Any) -> None:
    old_snapshot, old_targets = publisher.newest("snapshot"), publisher.newest("targets")
    publisher.release("anomaly", 2)
    trusted = releases.start(publisher.pinned, publisher.tuf["1.root.json"])
    trusted, floor = releases.take_timestamp(
        trusted, Floor(), publisher.newest("timestamp"), publisher.now
    )
    with pytest.raises(Untrusted, match=r"^mix_and_match: snapshot"):
        releases.take_snapshot(trusted, floor, old_snapshot, publisher.now)
    trusted, floor = releases.take_snapshot(
        trusted, floor, publisher.newest("snapshot"), publisher.now
    )
    with pytest.raises(Untrusted, match=r"^mix_and_match: targets"):
        releases.take_targets(trusted, floor, old_targets, publisher.now)


def test_releases_two_timestamps_of_one_version_are_untrusted(publisher: Any) -> None:
    trusted, floor = publisher.trusted()
    publisher.release("anomaly", 2)
    twin = repository.make_timestamp(
        1, publisher.now, publisher.newest("snapshot"), publisher.online
    )
    with pytest.raises(Untrusted, match=r"^mix_and_match: two timestamps"):
        releases.take_timestamp(trusted, floor, twin, publisher.now)


def test_releases_unlisted_release_is_untrusted(publisher: Any) -> None:
    trusted, floor = publisher.trusted()
    with pytest.raises(Untrusted, match=r"^unlisted: "):
        releases.choose(trusted, floor, "anomaly/9")


def test_releases_downgrade_needs_a_releasers_permission(publisher: Any) -> None:
    publisher.release("anomaly", 2)
    publisher.release("anomaly", 3, rollback=[2])
    trusted, floor = publisher.trusted()
    floor.accepted["anomaly"] = 3
    assert releases.choose(trusted, floor, "anomaly/2").version == 2
    with pytest.raises(Stale, match=r"^downgrade: anomaly/3 may not be replaced by anomaly/1"):
        releases.choose(trusted, floor, "anomaly/1")


def test_releases_minimum_version_holds_even_where_a_rollback_is_permitted(publisher: Any) -> None:
    publisher.release("anomaly", 2, minimum=2, rollback=[1])
    trusted, floor = publisher.trusted()
    with pytest.raises(Stale, match=r"^downgrade: anomaly/1 is below the minimum version 2"):
        releases.choose(trusted, floor, "anomaly/1")
    publisher.entries.pop("anomaly/2")  # forgotten by the releaser, not by the device
    publisher.sign()
    trusted, floor = publisher.trusted(floor)
    with pytest.raises(Stale, match=r"^downgrade"):
        releases.choose(trusted, floor, "anomaly/1")


def test_releases_truncated_tampered_and_flipped_manifests_are_corrupt(
    publisher: Any, seed: int
) -> None:
    trusted, floor = publisher.trusted()
    target = releases.choose(trusted, floor, "anomaly/1")
    data = publisher.blobs[target.digest.hex()]
    with pytest.raises(Corrupt, match=r"^truncated: "):
        releases.admit(target, data[:-1])
    rng = random.Random(seed)
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1 << rng.randrange(8)
        with pytest.raises(Corrupt, match=r"^content: "):
            releases.admit(target, bytes(flipped))


def test_releases_manifest_that_contradicts_its_targets_is_corrupt(publisher: Any) -> None:
    publisher.entries["anomaly/7"] = publisher.entries["anomaly/1"]  # one manifest, two names
    publisher.sign()
    trusted, floor = publisher.trusted()
    target = releases.choose(trusted, floor, "anomaly/7")
    with pytest.raises(Corrupt, match=r"^manifest: "):
        releases.admit(target, publisher.blobs[target.digest.hex()])


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_releases_any_flipped_bit_of_metadata_is_refused(
    publisher: Any, role: str, seed: int
) -> None:
    rng = random.Random(seed)
    data = publisher.newest(role)
    trusted, floor = publisher.trusted()
    take = {
        "root": lambda new: releases.start(publisher.pinned, new),
        "timestamp": lambda new: releases.take_timestamp(trusted, floor, new, publisher.now),
        "snapshot": lambda new: releases.take_snapshot(trusted, floor, new, publisher.now),
        "targets": lambda new: releases.take_targets(trusted, floor, new, publisher.now),
    }[role]
    take(data)
    for position in range(0, len(data), 3):
        flipped = bytearray(data)
        flipped[position] ^= 1 << rng.randrange(8)
        with pytest.raises(EdgecoreError):
            take(bytes(flipped))


def test_releases_metadata_over_its_bound_is_corrupt(publisher: Any) -> None:
    trusted, floor = publisher.trusted()
    with pytest.raises(Corrupt, match=r"^metadata: timestamp of"):
        releases.take_timestamp(trusted, floor, b" " * 20_000, publisher.now)
    with pytest.raises(Corrupt, match=r"^metadata: "):
        releases.take_timestamp(trusted, floor, publisher.newest("targets"), publisher.now)


def test_releases_proof_outlives_expiry_and_other_keys(publisher: Any) -> None:
    trusted, floor = publisher.trusted()
    target = releases.choose(trusted, floor, "anomaly/1")
    data = publisher.blobs[target.digest.hex()]
    kept = releases.proof(trusted, target)
    assert releases.recheck(publisher.pinned, kept, data).digest == target.digest
    with pytest.raises(Untrusted, match=r"^root: "):
        releases.recheck(blake3(b"other"), kept, data)
    with pytest.raises(Corrupt):
        releases.recheck(publisher.pinned, kept, data[:-1] + b"\0")


def test_releases_signed_time_moves_by_bounded_steps() -> None:
    first = Floor().at(1000 * DAY)
    assert first.time_ns == 1000 * DAY
    assert first.at(999 * DAY).time_ns == 1000 * DAY
    assert first.at(9000 * DAY).time_ns == 1400 * DAY


def test_releases_floor_and_trusted_come_back_from_their_bytes(publisher: Any) -> None:
    trusted, floor = publisher.trusted()
    floor.accepted["anomaly"] = 1
    assert Floor.from_body(floor.body()).body() == floor.body()
    assert releases.Trusted.from_body(trusted.body()).body() == trusted.body()

"""The updater: trial, activation, rollback; attacks on the link; what survives a restart."""

from __future__ import annotations

import random
from typing import Any

import pytest

from edgecore.artifacts import CHUNK_BYTES, Release
from edgecore.digest import blake3
from edgecore.errors import Corrupt, Exhausted, Incompatible, Stale, Unavailable, Untrusted
from edgecore.fs import MemoryFs
from edgecore.trust import repository
from edgecore.trust.keys import Ed25519Signer
from edgecore.wire import cbor
from edgecore.wire.desired import Desired

DAY = repository.DAY
WHOLE = ["preflight", "staged", "trial", "active", "stable"]
CALM = {"max_alarm_share": 0.1}


def test_update_first_release_serves_in_its_trial_and_becomes_stable(device: Any) -> None:
    device.wish("anomaly/1")
    device.run("trial")
    device.poll()
    assert [role for role, _, _ in device.updater.roles()] == ["active"]
    assert device.updater.current is None
    device.updater.report(100, 3, 0)
    device.run("active")
    assert device.updater.current.path == "anomaly/1"
    device.updater.report(100, 3, 0)
    device.run("stable")
    assert device.edges() == WHOLE
    assert [row["source_seq"] for row in device.rows] == [1, 2, 3, 4, 5]
    assert {row["digest"] for row in device.rows} == {device.updater.current.digest}


def test_update_trial_beside_an_active_release_is_a_shadow(publisher: Any, device: Any) -> None:
    device.prove("anomaly/1")
    publisher.release("anomaly", 2)
    device.wish("anomaly/2")
    device.run("trial")
    device.poll()
    said = [(role, release.path) for role, release, _ in device.updater.roles()]
    assert said == [("active", "anomaly/1"), ("shadow", "anomaly/2")]


def test_update_trial_that_alarms_too_often_is_rolled_back_for_good(
    publisher: Any, device: Any
) -> None:
    device.prove("anomaly/1")
    publisher.release("anomaly", 2, observation=CALM)
    device.wish("anomaly/2")
    device.run("trial")
    device.poll()
    device.updater.report(20, 11, 0)  # 11 of at most 10 in 100: no need to wait
    device.run("rolled_back")
    assert device.edges("anomaly/2") == ["preflight", "staged", "trial", "rolled_back"]
    assert "11 alarms in 20 predictions" in device.reason()
    assert device.updater.current.path == "anomaly/1"
    device.restart()
    for _ in range(20):
        device.poll()
    assert device.edges("anomaly/2")[-1] == "rolled_back"
    assert device.updater.current.path == "anomaly/1"


def test_update_release_that_was_given_up_is_tried_again_under_a_new_order_alone(
    publisher: Any, device: Any
) -> None:
    publisher.release("anomaly", 2, observation=CALM)
    device.wish("anomaly/2")
    device.run("trial")
    device.poll()
    device.updater.report(20, 11, 0)
    device.run("rolled_back")
    device.restart()
    asked = len(device.link.asked)
    for _ in range(10):
        device.poll()
    assert len(device.link.asked) == asked
    device.prove("anomaly/2")
    assert device.updater.current.path == "anomaly/2"
    assert [row["attempt"] for row in device.rows if row["edge"] == "trial"] == [1, 2]


def test_update_full_disk_does_not_keep_a_bad_release_active(publisher: Any, device: Any) -> None:
    device.prove("anomaly/1")
    publisher.release("anomaly", 2, observation=CALM)
    device.wish("anomaly/2")
    device.run("trial")
    device.poll()
    device.updater.report(100, 0, 0)
    device.run("active")
    device.fs.set_capacity(1)
    device.updater.report(0, 0, 5)
    device.run("rolled_back")
    assert device.updater.current.path == "anomaly/1"
    assert device.edges("anomaly/2")[-1] == "rolled_back"


def test_update_active_release_that_breaks_its_limits_gives_way_to_the_one_before(
    publisher: Any, device: Any
) -> None:
    device.prove("anomaly/1")
    publisher.release("anomaly", 2, observation=CALM)
    device.wish("anomaly/2")
    device.run("trial")
    device.poll()
    device.updater.report(100, 5, 0)
    device.run("active")
    device.updater.report(5, 0, 1)
    device.run("rolled_back")
    assert device.reason() == "observation: 1 errors of at most 0"
    assert device.updater.current.path == "anomaly/1"


def test_update_release_that_does_not_load_is_rolled_back_with_the_reason(
    publisher: Any, device: Any
) -> None:
    device.prove("anomaly/1")
    publisher.release("anomaly", 2)

    def refuse(release: Any, get: Any) -> None:
        raise Incompatible("golden: row 3 of 8 differs")

    device.loads = refuse
    device.wish("anomaly/2")
    device.run("rolled_back")
    assert device.reason() == "load: Incompatible: golden: row 3 of 8 differs"
    assert device.edges("anomaly/2") == ["preflight", "staged", "trial", "rolled_back"]
    assert device.updater.current.path == "anomaly/1"


def test_update_silent_trial_ends_at_its_deadline(publisher: Any, device: Any) -> None:
    publisher.release("anomaly", 2, observation={"max_seconds": 60, "min_predictions": 50})
    device.wish("anomaly/2")
    device.run("trial")
    device.poll()
    device.updater.report(12, 0, 0)
    device.now += 61 * 10**9
    device.run("rolled_back")
    assert device.reason() == "observation: 12 of 50 predictions in 60 s"


def test_update_trial_that_brings_the_process_down_is_given_up_after_three_attempts(
    device: Any,
) -> None:
    def crash(release: Any, get: Any) -> None:
        raise KeyboardInterrupt

    device.loads = crash
    device.wish("anomaly/1")
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            device.run("rolled_back")
        device.log_rows()
        device.restart()
    device.run("rolled_back")
    assert device.edges() == ["preflight", "staged", "trial", "trial", "trial", "rolled_back"]
    assert [row["attempt"] for row in device.rows[2:5]] == [1, 2, 3]
    assert device.reason() == "trial: 3 attempts and none came to an end"


def test_update_active_release_that_never_gets_stable_is_given_up_after_three_starts(
    publisher: Any, device: Any
) -> None:
    device.prove("anomaly/1")
    publisher.release("anomaly", 2)
    device.wish("anomaly/2")
    device.run("trial")
    device.poll()
    device.updater.report(100, 0, 0)
    device.run("active")
    for _ in range(3):
        device.restart()
    assert device.updater.current.path == "anomaly/1"
    device.log_rows()
    assert device.reason() == "load: 3 starts and none reached stable"


def test_update_restart_verifies_the_active_release_from_disk_alone(
    publisher: Any, device: Any
) -> None:
    device.prove("anomaly/1")
    device.link.up = False
    publisher.now += 5000 * DAY
    device.clock.jump_wall(publisher.now)  # everything has expired
    device.restart()
    assert device.updater.current.path == "anomaly/1"
    for _ in range(5):
        device.poll()
    assert [role for role, _, _ in device.updater.roles()] == ["active"]


def test_update_flipped_bit_in_the_active_release_falls_back_and_is_fetched_again(
    publisher: Any, device: Any
) -> None:
    device.prove("anomaly/1")
    publisher.release("anomaly", 2)
    device.prove("anomaly/2")
    digest = device.updater.current.object("model")
    device.close()
    flip(device.fs, "store", digest)
    device.open()
    assert device.updater.current.path == "anomaly/1"
    device.log_rows()
    assert device.reason().startswith("load: Corrupt: ")
    device.prove("anomaly/2")
    assert device.updater.current.path == "anomaly/2"


def test_update_release_that_nobody_signed_is_never_run_whatever_the_disk_says(
    publisher: Any, device: Any
) -> None:
    """Somebody wrote store and journal, in order and with right digests, but had no key."""
    device.prove("anomaly/1")
    publisher.releaser = Ed25519Signer(bytes([66]) * 32)
    publisher.release("anomaly", 6)
    manifest = publisher.manifests["anomaly/6"]
    proof = cbor.encode({
        "version": 1, "roots": [publisher.tuf["1.root.json"]], "path": "anomaly/6",
        "targets": publisher.newest("targets"),
    })  # fmt: skip
    names = [device.store.put(proof), device.store.put(manifest.encode())]
    for digest, _ in manifest.objects.values():
        names.append(device.store.put(publisher.blobs[digest.hex()]))
    journal = device.store.journal
    journal.stage(Release(blake3(manifest.encode()), 6, names))
    device.restart()
    assert device.updater.trial is None
    journal = device.store.journal
    journal.begin_trial()
    journal.activate()
    loaded = []
    device.loads = lambda release, get: loaded.append(release.path)
    device.restart()
    assert device.updater.current.path == "anomaly/1"
    device.log_rows()
    assert device.reason().startswith("load: Untrusted: signature: ")
    assert loaded == ["anomaly/1"]


@pytest.mark.parametrize("which", range(8))
def test_update_any_rotten_object_of_the_only_release_is_seen_and_fetched_again(
    device: Any, which: int
) -> None:
    device.prove("anomaly/1")
    digest = device.store.journal.state().active.objects[which]
    device.loads = lambda release, get: [get(name) for name, _ in release.manifest.objects.values()]
    device.close()
    flip(device.fs, "store", digest)
    device.open()
    assert device.updater.current is None
    device.prove("anomaly/1")
    assert device.updater.current.path == "anomaly/1"


def flip(fs: Any, directory: str, digest: bytes) -> None:
    """One bit of the file that holds an object."""
    found = [path for path in walk(fs, directory) if digest.hex()[4:] in path.replace("/", "")]
    assert len(found) == 1, (found, list(walk(fs, directory)))
    with fs.open(found[0], "read_write") as file:
        at = file.size() // 2
        file.write_at(at, bytes([file.read_at(at, 1)[0] ^ 1]))
        file.sync()


def walk(fs: Any, directory: str) -> list[str]:
    out = []
    for name in fs.list(directory):
        path = f"{directory}/{name}"
        try:
            inside = walk(fs, path)
        except (Unavailable, Corrupt):
            inside = []
        out += inside or [path]
    return out


# ------------------------------------------------------------------ attacks on the link


def refused(device: Any) -> Any:
    for _ in range(30):
        device.poll()
        if isinstance(device.updater.last_error, (Stale, Untrusted, Corrupt, Exhausted)):
            return device.updater.last_error
    raise AssertionError(f"nothing was refused: {device.updater.phase}")


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "manifest", "blob"])
@pytest.mark.parametrize("attack", ["flip", "cut"])
def test_update_attacked_answers_are_refused_by_word_and_the_truth_heals(
    publisher: Any, device: Any, role: str, attack: str
) -> None:
    device.prove("anomaly/1")
    publisher.release("anomaly", 2)
    manifest = publisher.manifests["anomaly/2"]
    names = {
        "manifest": blake3(manifest.encode()).hex(), "blob": manifest.objects["model"][0].hex(),
    }  # fmt: skip

    def change(path: str, answer: Any) -> Any:
        status, headers, data = answer()
        if not path.endswith(names.get(role, f"{role}.json")):
            return status, headers, data
        half = len(data) // 2
        if attack == "cut":
            return status, headers, data[: max(half, 10)]
        return status, headers, data[:half] + bytes([data[half] ^ 4]) + data[half + 1 :]

    device.link.fault = change
    device.wish("anomaly/2")
    if (role, attack) == ("blob", "cut"):  # an answer cut short is resumed from there
        device.run("trial")
        return
    error = refused(device)
    allowed = {"manifest": Corrupt, "blob": Corrupt}.get(role, (Corrupt, Untrusted))
    assert isinstance(error, allowed)
    assert device.updater.current.path == "anomaly/1"
    assert device.edges("anomaly/2")[-1] == "refused"
    device.link.fault = lambda path, answer: answer()
    device.run("trial")


def test_update_blob_that_is_short_at_the_hub_is_corrupt_truncated(
    publisher: Any, device: Any
) -> None:
    digest = publisher.manifests["anomaly/1"].objects["golden"][0].hex()
    publisher.blobs[digest] = publisher.blobs[digest][:-1]
    device.wish("anomaly/1")
    error = refused(device)
    assert isinstance(error, Corrupt)
    assert str(error).startswith("truncated: ")


def test_update_tampered_blob_of_the_same_length_is_corrupt(publisher: Any, device: Any) -> None:
    digest = publisher.manifests["anomaly/1"].objects["model"][0].hex()
    publisher.blobs[digest] = publisher.blobs[digest][:-1] + b"!"
    device.wish("anomaly/1")
    assert isinstance(refused(device), Corrupt)
    assert device.updater.phase == "empty"


@pytest.mark.parametrize(
    ("attack", "kind", "word"),
    [
        ("rollback", Stale, "rollback"), ("freeze", Stale, "freeze"),
        ("mix_and_match", Untrusted, "mix_and_match"), ("expired", Stale, "expired"),
        ("wrong key", Untrusted, "signature"), ("unlisted", Untrusted, "unlisted"),
    ],
)  # fmt: skip
def test_update_each_attack_has_its_own_outcome(
    publisher: Any, device: Any, attack: str, kind: type[Exception], word: str
) -> None:
    old = dict(publisher.tuf)
    device.prove("anomaly/1")
    publisher.release("anomaly", 2)
    if attack == "rollback":
        device.prove("anomaly/2")
        publisher.tuf = {**publisher.tuf, **old}
        publisher.tuf["timestamp.json"] = old["timestamp.json"]
    elif attack == "freeze":
        device.clock.jump_wall(publisher.now + 8 * DAY)
    elif attack == "mix_and_match":
        publisher.tuf["2.targets.json"] = old["1.targets.json"]
    elif attack == "expired":
        targets = repository.make_targets(
            3, publisher.now, publisher.entries, publisher.releaser, days=-1
        )
        publisher.tuf["3.targets.json"] = targets
        publisher.sign_online(targets)
    elif attack == "wrong key":
        publisher.online = publisher.releaser
        publisher.sign()
    device.wish("anomaly/9" if attack in ("unlisted", "rollback") else "anomaly/2")
    error = refused(device)
    assert isinstance(error, kind)
    assert str(error).startswith(f"{word}: ")
    assert device.rows[-1]["edge"] == "refused"
    assert device.rows[-1]["reason"] == f"{kind.__name__}: {error}"
    count = len(device.rows)
    device.now += 10**13
    for _ in range(20):
        device.now += 10**12
        device.poll()
    assert len(device.rows) == count  # once, however often it is tried
    assert device.updater.current is not None


@pytest.mark.parametrize("status", [200, 204, 302, 404, 500])
@pytest.mark.parametrize("body", [b"", b"<html>Welcome</html>"])
def test_update_captive_portal_is_no_verdict(device: Any, status: int, body: bytes) -> None:
    device.link.fault = lambda path, answer: (status, {}, body)
    device.wish("anomaly/1")
    for _ in range(10):
        device.poll()
    assert isinstance(device.updater.last_error, Unavailable)
    assert device.rows == []
    device.link.fault = lambda path, answer: answer()
    device.run("trial")


def test_update_portal_that_comes_and_goes_is_never_believed(device: Any, seed: int) -> None:
    rng = random.Random(seed)

    def portal(path: str, answer: Any) -> Any:
        return answer() if rng.random() < 0.8 else (200, {}, b"<html>" * 40)

    device.link.fault = portal
    device.wish("anomaly/1")
    device.run("trial", polls=2000)
    assert device.edges() == ["preflight", "staged", "trial"]


# ------------------------------------------------------------------ downloads


def test_update_interrupted_download_resumes_with_at_most_a_chunk_again(
    publisher: Any, make_device: Any
) -> None:
    from edgecore.release import OBJECTS, Bundle

    objects = dict.fromkeys(OBJECTS, b"x")
    objects["model"] = bytes(range(256)) * (5 * CHUNK_BYTES // 256) + b"tail"
    made = Bundle(
        objects, family="f", profile="p", ops=["A"], arena_bytes=1, features=[bytes(32)],
        score="s", golden_output=bytes(32),
    )  # fmt: skip
    path = publisher.release("big", 1, made)
    length = len(objects["model"])
    name = f"/v1/blob/{blake3(objects['model']).hex()}"
    device = make_device()
    device.wish(path)
    seen = restarts = 0
    got = []

    def cut(at: str, answer: Any) -> Any:
        nonlocal seen
        status, headers, data = answer()
        if at == name:
            seen += 1
            if seen % 2 == 0:
                raise Unavailable("cut")
            got.append(len(data))
        return status, headers, data

    device.link.fault = cut
    for _ in range(200):
        device.poll()
        if seen in (5, 9):
            seen += 1
            restarts += 1
            device.restart()
        if device.updater.phase == "trial":
            break
    assert device.updater.phase == "trial"
    assert restarts == 2
    assert length <= sum(got) <= length + restarts * CHUNK_BYTES


def test_update_full_disk_is_exhausted_and_loses_nothing(publisher: Any, make_device: Any) -> None:
    device = make_device()
    device.prove("anomaly/1")
    publisher.release("anomaly", 2)
    device.fs.set_capacity(1)
    device.wish("anomaly/2")
    assert isinstance(refused(device), Exhausted)
    assert device.updater.current.path == "anomaly/1"
    device.fs.set_capacity(1 << 30)
    device.run("trial")


# ------------------------------------------------------------------ orders and floors


def test_update_order_withdrawn_in_the_trial_is_rolled_back_and_may_return(
    publisher: Any, device: Any
) -> None:
    device.prove("anomaly/1")
    publisher.release("anomaly", 2)
    device.wish("anomaly/2")
    device.run("trial")
    device.wish("anomaly/1")
    device.run("rolled_back")
    assert device.reason().startswith("withdrawn: ")
    device.prove("anomaly/2")
    assert device.updater.current.path == "anomaly/2"


def test_update_old_order_played_again_after_a_restart_changes_nothing(
    publisher: Any, device: Any
) -> None:
    device.prove("anomaly/1")
    old = device.desired
    publisher.release("anomaly", 2, rollback=[1])
    device.prove("anomaly/2")
    device.restart()
    device.desired = old
    for _ in range(20):
        device.poll()
    assert (device.updater.current.path, device.updater.phase) == ("anomaly/2", "stable")
    restored = Desired(1, publisher.now + 1, ("anomaly", 1, "anomaly/1"))  # ids begin anew
    device.desired = restored
    device.run("trial")


def test_update_floor_survives_a_restart_and_the_loss_of_one_copy(
    publisher: Any, device: Any
) -> None:
    device.prove("anomaly/1")
    publisher.release("anomaly", 2)
    device.prove("anomaly/2")
    device.close()
    for copy in ("floor.a", "trusted.b"):
        with device.fs.open(f"update/{copy}", "read_write") as file:
            file.write_at(40, b"\xff")
            file.sync()
    device.open()
    device.wish("anomaly/1")
    error = refused(device)
    assert isinstance(error, Stale)
    assert str(error).startswith("downgrade: anomaly/2 may not be replaced by anomaly/1")


def test_update_lost_floor_blocks_installs_and_keeps_the_release_running(
    publisher: Any, device: Any
) -> None:
    device.prove("anomaly/1")
    device.close()
    for copy in ("floor.a", "floor.b"):
        with device.fs.open(f"update/{copy}", "read_write") as file:
            file.write_at(40, b"\xff")
            file.sync()
    device.open()
    publisher.release("anomaly", 2)
    device.wish("anomaly/2")
    error = refused(device)
    assert isinstance(error, Corrupt)
    assert str(error).startswith("floor: ")
    assert device.updater.current.path == "anomaly/1"


def test_update_permitted_rollback_is_installed(publisher: Any, device: Any) -> None:
    device.prove("anomaly/1")
    publisher.release("anomaly", 2, rollback=[1])
    device.prove("anomaly/2")
    device.prove("anomaly/1")
    assert device.updater.current.path == "anomaly/1"


def test_update_frozen_clock_does_not_revive_expired_metadata(publisher: Any, device: Any) -> None:
    device.clock.jump_wall(0)  # a board without a battery
    device.updater.heard(publisher.now + 8 * DAY)
    device.restart()
    device.wish("anomaly/1")
    assert str(refused(device)).startswith("freeze: ")


def test_update_root_that_follows_is_taken_and_its_keys_are_believed(
    publisher: Any, device: Any
) -> None:
    device.prove("anomaly/1")
    publisher.releaser = Ed25519Signer(bytes([7]) * 32)
    publisher.online = Ed25519Signer(bytes([8]) * 32)
    publisher.make_root()
    publisher.release("anomaly", 2)
    device.prove("anomaly/2")
    device.restart()
    assert device.updater.current.path == "anomaly/2"


def test_update_invite_without_a_root_is_untrusted(publisher: Any, make_device: Any) -> None:
    publisher.pinned = bytes(32)
    device = make_device(MemoryFs())
    device.wish("anomaly/1")
    assert str(refused(device)).startswith("root: the invite names none")

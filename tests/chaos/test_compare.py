# SPDX-License-Identifier: Apache-2.0
"""Each comparison finds what it is there for, and only that."""
import dataclasses
import random
from types import SimpleNamespace

import pytest

import compare
import report
from compare import Record
from oracle import KEYS, STREAMS, TYPES, Sent, chain_event, platform_event
from stores import record


def client(name="c", n=1000, acked=1000, batch=50, attempts=1):
    sent = [Sent(i, batch, i / 100, (i + 1) / 100 if i < acked else None, attempts) for i in range(0, n, batch)]
    return SimpleNamespace(client=name, sent=sent, issued=n)


def log(n=1000, name="c", topic="t"):
    """What a pipeline that breaks nothing leaves: two partitions by key."""
    records = [Record(name, i, f"{name}k{i % KEYS}", i // KEYS, i % KEYS % 2, i // 2, topic) for i in range(n)]
    return sorted(records, key=lambda r: r.partition)


def promises(findings):
    return [f.promise for f in findings]


def all_of_a_log(records, clients):
    return compare.check_there("w", (r.id for r in records), clients) + compare.check_content("w", records) + \
        compare.check_order("w", records)


def test_a_whole_log_is_fine():
    assert all_of_a_log(log(), [client()]) == []


def test_what_was_not_acknowledged_may_be_there_or_not():
    for n in (500, 700, 1000):
        assert all_of_a_log(log(n), [client(acked=500)]) == []


def test_one_that_is_lost():
    records = [r for r in log() if r.number != 321]
    findings = all_of_a_log(records, [client()])
    assert promises(findings) == ["lost"] and findings[0].count == 1 and "321" in findings[0].text


def test_one_that_nobody_issued():
    assert promises(compare.check_there("w", (r.id for r in log(1001)), [client()])) == ["never issued"]


def test_one_that_was_changed():
    records = log()
    records[7].seq += 1
    assert promises(compare.check_content("w", records)) == ["changed"]


def test_two_that_changed_places():
    records = log()
    a, b = (i for i, r in enumerate(records) if r.key == "ck3" and r.seq in (8, 9))
    records[a], records[b] = records[b], records[a]
    assert promises(compare.check_order("w", records)) == ["reordered"]


def test_what_is_repeated_is_no_wrong_order():
    records = [r for r in log() if r.partition == 0]
    assert compare.check_order("w", records[:300] + records[250:]) == []


def test_a_key_in_two_partitions():
    records = log()
    records[-1].partition = 7
    assert promises(compare.check_order("w", records)) == ["reordered"]


def test_a_disk_buffer_repeats_only_what_its_cursor_did_not_have():
    records = log()
    again = records[300:340]
    for window, found in (((300, 340), []), ((0, 1000), []), ((301, 340), ["duplicated"]),
                          ((300, 339), ["duplicated"])):
        assert promises(compare.check_repeated_by_place("w", records + again, [client()], [], [window])) == found
    twice = records + again + again  # the second time from behind the first window
    assert promises(compare.check_repeated_by_place("w", twice, [client()], [], [(300, 340)])) == ["duplicated"]
    assert compare.check_repeated_by_place("w", twice, [client()], [], [(300, 340), (1000, 1040)]) == []
    assert compare.check_repeated_by_place("w", twice, [client(attempts=2)], [], []) == []


def test_a_repetition_needs_a_fault_while_its_request_was_under_way():
    records = log() + [r for r in log() if r.number == 321]
    during, long_before = [(2.9, 3.1)], [(0.1, 0.2)]
    assert compare.check_repeated_by_request("w", records, [client()], during) == []
    assert promises(compare.check_repeated_by_request("w", records, [client()], long_before)) == ["duplicated"]
    assert compare.check_repeated_by_request("w", records, [client(attempts=2)], []) == []


def test_a_copy_repeats_only_what_was_not_committed():
    source = log()
    again = [r for r in source if r.number in (320, 321)]
    inside = [({0: 100, 1: 100}, {0: 200, 1: 200})]
    assert compare.check_repeated_by_offset("w", source, source + again, inside) == []
    for windows in ([], [({0: 161, 1: 161}, {0: 200, 1: 200})], [({0: 0, 1: 0}, {0: 160, 1: 160})]):
        assert promises(compare.check_repeated_by_offset("w", source, source + again, windows)) == ["duplicated"]
    # What the source has twice the copy has twice.
    assert compare.check_repeated_by_offset("w", source + again, source + again, []) == []


def test_a_followed_file_repeats_only_what_its_state_did_not_have():
    again = [r for r in log() if r.number == 321]
    assert compare.check_repeated_by_number("w", log() + again, [(300, 400)]) == []
    assert promises(compare.check_repeated_by_number("w", log() + again, [(322, 400), (0, 321)])) == ["duplicated"]


def lists(records):
    found = {}
    for r in records:
        found.setdefault(r.key, []).append(r.seq)
    return found


def test_lists_hold_each_event_once_in_order():
    assert compare.check_lists("w", lists(log()), log() + log()[:10]) == []
    for change, promise in ((lambda one: one.pop(5), "lost"), (lambda one: one.insert(5, 3), "duplicated"),
                            (lambda one: one.reverse(), "reordered")):
        broken = lists(log())
        change(broken["ck3"])
        assert promises(compare.check_lists("w", broken, log())) == [promise]
    assert promises(compare.check_lists("w", {**lists(log()), "x": [1]}, log())) == ["never issued"]


def test_a_history_goes_back_but_never_jumps_ahead():
    whole = list(range(40))
    for fine in (whole, whole[:9] + whole[5:], whole[:9] + whole[5:7] + whole[3:]):
        assert compare.check_history("w", {**lists(log()), "ck3": fine}, log()) == []
    # An owner from before wrote 5 and 6 when the next one had come to 9.
    assert promises(compare.check_history(
        "w", {**lists(log()), "ck3": whole[:10] + [5, 6] + whole[10:]}, log())) == ["reordered"]
    assert promises(compare.check_history("w", {**lists(log()), "ck3": whole[:-1]}, log())) == ["lost"]
    assert set(promises(compare.check_history(
        "w", {**lists(log()), "ck3": whole[:5] + whole[6:]}, log()))) == {"lost", "reordered"}


def test_a_history_of_a_log_that_repeats():
    records = log() + [r for r in log() if r.key == "ck3"][10:20]
    history = {**lists(log()), "ck3": list(range(40)) + list(range(10, 20))}
    assert compare.check_history("w", history, records) == []


def test_the_last_value_is_that_of_the_log_with_its_repetitions():
    records = log()
    values = {r.key: r.seq for r in records}
    assert compare.check_last("w", values, records) == []
    assert promises(compare.check_last("w", {**values, "ck3": 12}, records)) == ["stale"]
    late = records + [r for r in records if r.number == 3]
    assert compare.check_last("w", {**values, "ck3": 0}, late) == []


def test_counters():
    right = {kind: 125 for kind in TYPES}
    assert compare.check_counters("w", right, log() + log()[:99]) == []
    assert promises(compare.check_counters("w", {**right, "login": 126}, log())) == ["miscounted"]
    assert promises(compare.check_counters("w", {**right, "more": 1}, log())) == ["miscounted"]


def test_topics_by_type():
    records = [dataclasses.replace(r, topic="user-events." + STREAMS.get(TYPES[r.number % 8], "activity"))
               for r in log()]
    assert compare.check_topic_of_type("w", records) == []
    records[9].topic = "user-events.elsewhere"
    assert promises(compare.check_topic_of_type("w", records)) == ["misrouted"]


@pytest.mark.parametrize("make", [chain_event, platform_event])
def test_events_are_read_as_they_were_made(make):
    for i in (0, 1, 77, 123456):
        r = record(make("p12c3", i))
        assert r.id == ("p12c3", i)
        assert compare.check_content("w", [r]) == []


def test_a_report_adds_up():
    fault = {"kinds": ["kill", "redis"], "targets": ["a", "redis"], "in_flight": True, "kills": 1,
             "recovered": {"copy": 2.0, "count": None}}
    found = {"promise": "lost", "where": "MongoDB", "count": 3, "text": "..."}
    one = {"round": 1, "seconds": 30.0, "issued": 100, "acknowledged": 99, "kills": 1, "faults": [fault],
           "figures": {"MongoDB": {"records": 100, "repeated": 0}}, "findings": []}
    untold = {**fault, "untold": ["count"]}
    sums = report.total([one, {**one, "round": 2, "findings": [found], "faults": [untold]}])
    assert (sums["issued"], sums["acknowledged"], sums["kills"], sums["server_kills"], sums["faults"]) == \
        (200, 198, 2, 2, 4)
    assert sums["found"] == {"lost": 3} and sums["stores"]["MongoDB"]["records"] == 200
    assert sums["by_kind"]["kill"] == {"faults": 2, "in_flight": 2, "late": 1, "untold": 1, "median_s": 2.0,
                                       "longest_s": 2.0}
    assert "FOUND lost in MongoDB (round 2)" in report.text(sums, {"seed": 1})
    assert "| acknowledged and lost | 3 |" in report.markdown(sums, 1)
    for text in (report.text(sums, {"seed": 1}), report.markdown(sums, 1)):
        assert "too slow to tell" in text


def test_the_readme_gets_the_section_between_its_marks(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("before\n" + report.MARKS[0] + "figures of yesterday\n" + report.MARKS[1] + "after\n")
    report.write_readme(path, report.total([]), 4711)
    text = path.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "yesterday" not in text
    assert "rounds with seed 4711" in text


def test_the_same_seed_gives_the_same_numbers():
    first, again, other = (random.Random(f"{seed}/1").random() for seed in (7, 7, 8))
    assert first == again != other

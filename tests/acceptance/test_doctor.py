"""`bichat doctor` and the command's own manners."""

from __future__ import annotations

import json


def test_doctor_reports_every_layer_and_limit_as_json(bichat):
    done = bichat("doctor", "--json")

    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert report["level"] == "namespaces"
    assert {check["name"] for check in report["checks"] if check["on"]} >= {
        "private_root",
        "process_namespace",
        "network",
        "landlock",
        "seccomp",
        "capabilities",
    }
    assert report["limits"]["memory_bytes"] == 1 << 30
    assert report["bounds"]["timeout_s"] == 3600
    assert "pandas" in {name for built in report["environments"] for name in built["packages"]}


def test_doctor_speaks_to_people(bichat):
    done = bichat("doctor")

    said = done.stdout.decode()
    assert done.returncode == 0
    for word in ("namespaces", "Landlock", "on", "memory_bytes", "data"):
        assert word in said


def test_a_bad_setting_is_named_with_its_rule_and_value(bichat):
    done = bichat("doctor", variables={"BICHAT_MAX_PIDS": "many"})

    assert done.returncode == 2
    assert b"BICHAT_MAX_PIDS" in done.stderr
    assert b"'many'" in done.stderr


def test_a_relative_data_directory_is_refused(bichat):
    done = bichat("run", "-c", "1", variables={"BICHAT_DATA_DIR": "here"})

    assert done.returncode == 2
    assert b"BICHAT_DATA_DIR" in done.stderr


def test_the_version_is_printed(bichat):
    done = bichat("--version")

    assert done.returncode == 0
    assert done.stdout.startswith(b"bichat 0.")


def test_the_attack_suite_is_one_json_document_and_exits_with_0_where_everything_held(bichat):
    done = bichat("doctor", "--attack", "--level", "namespaces", "--json")

    report = json.loads(done.stdout)
    (level,) = report["levels"]
    assert [attack for attack in level["attacks"] if attack["outcome"] != "held"] == []
    assert [attack for attack in level["attacks"] if not (attack["stopped_by"] and attack["observed"])] == []
    assert (done.returncode, report["got_through"]) == (0, False)
    assert level["counts"]["held"] == len(level["attacks"])


def test_a_level_without_an_attack_or_that_there_is_not_is_bad_usage(bichat):
    alone = bichat("doctor", "--level", "landlock")
    unknown = bichat("doctor", "--attack", "--level", "best")

    assert (alone.returncode, unknown.returncode) == (2, 2)
    assert b"--attack" in alone.stderr
    assert b"landlock" in unknown.stderr


def test_settings_that_can_hardly_be_meant_are_named(bichat):
    variables = {"BICHAT_ISOLATE": "namespaces", "BICHAT_CAP_MEMORY_BYTES": "64m"}

    told = bichat("doctor", "--json", variables=variables)
    ran = bichat("env", "list", variables=variables)

    remarks = [(remark["name"], remark["what"].split()[0]) for remark in json.loads(told.stdout)["remarks"]]
    assert ("misspelt_variable", "BICHAT_ISOLATE") in remarks
    assert ("contradicting_caps", "BICHAT_CAP_MEMORY_BYTES") in remarks
    assert told.stderr == b""
    assert b"If BICHAT_ISOLATION is meant, call it so." in ran.stderr
    assert ran.stderr.count(b"BICHAT_ISOLATE ") == 1

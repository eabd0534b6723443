"""Displayed values: checked, bounded, in their order, and the names of their images."""

from __future__ import annotations

import base64
import copy
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bichat.domain import CHART_TYPE, TABLE_TYPE, Artifact, ExecutionResult, IsolationReport, Result, Status
from bichat.sandbox.results import MAX_RESULTS, MAX_RESULTS_BYTES, BytesContent, Results, Shown, name_images
from bichat.sizes import MIB

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
JPEG = b"\xff\xd8\xff\xe0" + bytes(20)
SVG = '<svg xmlns="http://www.w3.org/2000/svg"/>'


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def shown_of(*displays: dict[str, Any]) -> tuple[Shown, ...]:
    results = Results()
    for display in displays:
        results.add(display, len(json.dumps(display)))
    return results.listed()


def result_of(**data: Any) -> Result | None:
    return Results().add({"data": {name.replace("_", "/", 1): value for name, value in data.items()}}, 100)


# -------------------------------------------------------------------------------------------------------------- checked


def test_a_bundle_is_text_as_text_images_as_bytes_and_json_as_values():
    data = {
        "text/plain": "<Figure>",
        "text/html": "<b>x</b>",
        "image/png": text(PNG),
        "image/jpeg": text(JPEG),
        "image/svg+xml": SVG,
        "application/json": [1, None, {"a": 2.5}],
        "application/vnd.plotly.v1+json": {"data": []},
        "application/vnd.vegalite.v5+json": {"mark": "bar"},
    }

    result = Results().add({"data": data, "metadata": {"image/png": {"width": 3}}, "id": "abc"}, 100)

    assert result == Result(
        data=data | {"image/png": PNG, "image/jpeg": JPEG}, metadata={"image/png": {"width": 3}}, display_id="abc"
    )


def test_base64_may_be_broken_into_lines_as_ipython_does():
    assert result_of(image_png=base64.encodebytes(PNG * 10).decode()) == Result(data={"image/png": PNG * 10})


@pytest.mark.parametrize(
    "kind, value",
    [
        ("text/plain", 1),
        ("text/plain", None),
        ("text/plain", ["a"]),
        ("text/html", {"a": 1}),
        ("image/svg+xml", ["<svg/>"]),
        ("image/png", "not base64!"),
        ("image/png", "abc"),
        ("image/png", 3),
        ("image/png", [text(PNG)]),
        ("image/png", text(JPEG)),
        ("image/png", text(b"<html><script>alert(1)</script>")),
        ("image/jpeg", text(PNG)),
        ("image/gif", text(b"GIF")),
        (TABLE_TYPE, [{"a": 1}]),
        (TABLE_TYPE, "a"),
        (CHART_TYPE, 1),
        (CHART_TYPE, True),
        ("application/pdf", None),
        ("", "x"),
        ("text", "x"),
        ("text/", "x"),
        ("/plain", "x"),
        ("text/plain\n", "x"),
        ("text/plain; charset=x", "x"),
        ("TEXT/plain", "x"),
        ("text/" + "x" * 200, "x"),
        ("../etc/passwd", "x"),
        ("text/<script>", "x"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_not_what_its_type_says_is_left_out_and_the_rest_stays(kind, value):
    result = Results().add({"data": {kind: value, "text/latex": "$x$"}}, 100)

    assert result == Result(data={"text/latex": "$x$"})
    assert Results().add({"data": {kind: value}}, 100) is None


@pytest.mark.parametrize(
    "display", [{}, {"data": None}, {"data": []}, {"data": "x"}, {"data": {}}, {"data": 3}], ids=str
)
def test_a_display_without_data_shows_nothing(display):
    results = Results()

    assert results.add(display, 10) is None
    assert (results.listed(), results.omitted) == ((), 0)


@pytest.mark.parametrize("field", ["metadata", "id", "saved_as", "update"])
@pytest.mark.parametrize("value", [None, 1, "x", [], [1, None, {}], {}, {"a": []}, True, 10**30], ids=str)
def test_whatever_stands_beside_the_data_does_no_harm(field, value):
    results = Results()

    result = results.add({"data": {"text/plain": "x"}, field: value}, 10)

    assert result is not None
    assert isinstance(result.metadata, dict)
    assert isinstance(result.display_id, str)
    assert all(isinstance(name, str) for one in results.listed() for name in one.saved_as)
    json.dumps(result.to_dict())


def test_a_value_has_at_most_twenty_forms():
    result = Results().add({"data": {f"text/x{number}": "x" for number in range(1000)}}, 100)

    assert result is not None
    assert len(result.data) == 20


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5)
branches = st.lists(leaves, max_size=3) | st.dictionaries(st.text(max_size=5), leaves, max_size=3)
json_values = leaves | branches | st.lists(branches, max_size=2)
kinds = st.sampled_from(["text/plain", "text/html", "image/png", "image/svg+xml", "application/json", "a", "x/y+json"])


@settings(max_examples=50)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["data", "metadata", "id", "update", "saved_as", "printed"]),
            json_values | st.dictionaries(kinds, json_values, max_size=4),
        ),
        max_size=6,
    )
)
def test_whatever_a_guest_sends_becomes_results_that_can_be_written_down_or_nothing(displays):
    results = Results()
    for display in displays:
        results.add(display, 10)
    named, images, _ = name_images(results.listed(), (), frozenset(), 1)
    whole = ExecutionResult(
        status=Status.COMPLETED, results=named, artifacts=images, isolation=IsolationReport(level="namespaces")
    )

    written = json.dumps(whole.to_dict(), allow_nan=False, ensure_ascii=False).encode()

    assert len(json.loads(written)["results"]) == len(results.listed())


@pytest.mark.parametrize("kind", ["text/plain", "text/html", "application/json", "image/svg+xml"])
def test_halves_of_characters_become_text_that_can_be_written_down(kind):
    result = Results().add({"data": {kind: "a\ud800b"}, "metadata": {"\udfff": ["\ud800"]}, "id": "\ud800"}, 10)

    assert result is not None
    assert result.data[kind] == "a\\ud800b"
    json.dumps(result.to_dict(), ensure_ascii=False).encode()


def test_numbers_that_json_does_not_have_become_null():
    value = {"x": [1.5, float("nan"), float("inf"), -float("inf")]}

    result = Results().add({"data": {"application/vnd.plotly.v1+json": value}, "metadata": {"a": float("nan")}}, 10)

    assert result is not None
    assert result.data["application/vnd.plotly.v1+json"] == {"x": [1.5, None, None, None]}
    json.dumps(result.to_dict(), allow_nan=False)


@pytest.mark.parametrize("depth", [50, 400, 900, 2000])
@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}], ids=["lists", "objects"])
def test_json_nested_deep_is_left_out_or_can_be_written_down_and_copied(depth, wrap):
    deep: Any = []
    for _ in range(depth):
        deep = wrap(deep)

    result = Results().add({"data": {"application/json": deep, "text/plain": "x"}, "metadata": {"a": deep}}, 10)

    assert result is not None
    assert result.text == "x"
    assert ("application/json" in result.data) == (depth == 50)
    json.dumps(result.to_dict())
    copy.deepcopy(result.data)


# -------------------------------------------------------------------------------------------------------------- bounded


def test_results_beyond_the_number_that_is_kept_are_counted():
    results = Results()
    for number in range(MAX_RESULTS + 50):
        results.add({"data": {"text/plain": str(number)}}, 10)

    assert [one.result.text for one in results.listed()] == [str(number) for number in range(MAX_RESULTS)]
    assert results.omitted == 50


def test_results_beyond_the_bytes_that_are_kept_are_counted_and_smaller_ones_still_come():
    results = Results()
    for number, size in enumerate((MAX_RESULTS_BYTES - 100, 200, 50)):
        results.add({"data": {"text/plain": str(number)}}, size)

    assert [one.result.text for one in results.listed()] == ["0", "2"]
    assert results.omitted == 1


def test_a_value_shown_in_many_places_counts_in_each():
    results = Results()
    for _ in range(100):
        results.add({"data": {"text/plain": "small"}, "id": "a"}, 10)
    results.add({"data": {"text/plain": "large"}, "id": "a", "update": True}, MIB)

    assert results.omitted == 1
    assert {one.result.text for one in results.listed()} == {"small"}


def test_updates_without_end_do_not_use_up_the_room():
    results = Results()
    for number in range(10_000):
        results.add({"data": {"text/plain": str(number)}, "id": "a", "update": True}, MIB)

    assert [one.result.text for one in results.listed()] == ["9999"]
    assert results.omitted == 0


# ----------------------------------------------------------------------------------------------------- updated, cleared


def test_an_update_takes_the_place_of_all_that_have_its_id():
    results = Results()
    for name, display_id in (("a", "1"), ("b", "2"), ("c", "1"), ("d", "")):
        results.add({"data": {"text/plain": name}, "id": display_id}, 10)

    results.add({"data": {"text/plain": "new"}, "id": "1", "update": True}, 10)

    assert [one.result.text for one in results.listed()] == ["new", "b", "new", "d"]


def test_an_update_of_nothing_is_a_display():
    assert [one.result.text for one in shown_of({"data": {"text/plain": "x"}, "id": "1", "update": True})] == ["x"]


def test_clearing_takes_away_what_was_shown_at_once_or_with_the_next():
    results = Results()
    results.add({"data": {"text/plain": "a"}}, 10)
    results.clear(wait=True)
    assert [one.result.text for one in results.listed()] == ["a"]
    results.add({"data": {"text/plain": "b"}}, 10)
    assert [one.result.text for one in results.listed()] == ["b"]
    results.add({"data": {"text/plain": "c"}}, 10)
    assert [one.result.text for one in results.listed()] == ["b", "c"]

    results.clear()

    assert results.listed() == ()


# ---------------------------------------------------------------------------------------------------------------- named


def artifact(name: str, mime_type: str = "image/png") -> Artifact:
    return Artifact(name=name, mime_type=mime_type, size_bytes=1, sha256="", content=BytesContent(b"x"))


def test_images_are_numbered_in_order_and_each_is_an_artifact():
    shown = shown_of(
        {"data": {"image/png": text(PNG)}},
        {"data": {"text/plain": "no image"}},
        {"data": {"image/svg+xml": SVG}},
        {"data": {"image/jpeg": text(JPEG), "image/png": text(PNG)}},
        {"data": {"image/jpeg": text(JPEG)}},
    )

    results, images, next_number = name_images(shown, (), frozenset(), 3)

    assert [result.artifact for result in results] == [
        "figure-3.png",
        "",
        "figure-4.svg",
        "figure-5.png",
        "figure-6.jpg",
    ]
    assert [(one.name, one.mime_type, one.source, one.read_bytes()) for one in images] == [
        ("figure-3.png", "image/png", "display", PNG),
        ("figure-4.svg", "image/svg+xml", "display", SVG.encode()),
        ("figure-5.png", "image/png", "display", PNG),
        ("figure-6.jpg", "image/jpeg", "display", JPEG),
    ]
    assert all(one.size_bytes == len(one.read_bytes()) for one in images)
    assert next_number == 7


def test_no_image_takes_the_name_of_a_file_that_is_there():
    shown = shown_of(*[{"data": {"image/png": text(PNG)}}] * 2)

    _, images, next_number = name_images(shown, (), frozenset({"figure-1.png", "figure-2.png", "figure-4.png"}), 1)

    assert [one.name for one in images] == ["figure-3.png", "figure-5.png"]
    assert next_number == 6


def test_a_figure_that_was_saved_as_an_image_goes_by_that_name_and_is_shown_once():
    display = {"data": {"image/png": text(PNG)}}
    shown = shown_of(
        display | {"saved_as": ["chart.pdf", "missing.png", "chart.png"]},
        display | {"saved_as": ["data.csv"]},
        display | {"saved_as": ["../../etc/passwd"]},
    )
    captured = (artifact("chart.png"), artifact("chart.pdf", "application/pdf"), artifact("data.csv", "text/csv"))

    results, images, _ = name_images(shown, captured, frozenset(), 1)

    assert [result.artifact for result in results] == ["chart.png", "figure-1.png", "figure-2.png"]
    assert [one.name for one in images] == ["figure-1.png", "figure-2.png"]


def test_naming_changes_nothing_else_of_a_result():
    shown = shown_of({"data": {"image/png": text(PNG), "text/plain": "x"}, "metadata": {"a": 1}, "id": "i"})

    (result,), *_ = name_images(shown, (), frozenset(), 1)

    assert replace(result, artifact="") == shown[0].result


def test_an_images_bytes_come_in_pieces():
    content = BytesContent(bytes(3 * MIB + 1))

    assert [len(chunk) for chunk in content.chunks()] == [MIB, MIB, MIB, 1]
    assert b"".join(content.chunks()) == content.content

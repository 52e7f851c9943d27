"""The last line is for programs, the table for people."""

import json

from bench.report import Report, ms, table


def test_the_json_is_one_line_with_the_name_of_the_bench_and_rounded_numbers() -> None:
    report = Report(numbers={"ratio": 1.23456, "rows": [{"ms": 0.00049}], "runs": 3}, head=["a"], rows=[])

    line = report.json("deploy")

    assert "\n" not in line
    assert json.loads(line) == {"bench": "deploy", "ratio": 1.235, "rows": [{"ms": 0.0}], "runs": 3}


def test_a_table_has_its_names_to_the_left_and_its_numbers_to_the_right() -> None:
    assert table(["app", "ratio"], [["static", "1.0"], ["x", "12.25"]]) == [
        "app     ratio",
        "------  -----",
        "static    1.0",
        "x       12.25",
    ]


def test_the_text_ends_with_the_notes() -> None:
    assert Report(numbers={}, head=["a"], rows=[["1"]], notes=["Said."]).text().endswith("1\nSaid.")


def test_milliseconds_show_tenths_only_where_they_matter() -> None:
    assert (ms(9.26), ms(99.94), ms(1234.5)) == ("9.3", "99.9", "1,234")

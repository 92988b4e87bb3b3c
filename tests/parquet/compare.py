"""Compares archived Parquet files, as DuckDB and as pandas read them, with the rows that were published.

usage: compare.py DIRECTORY, which tests/parquet has written. Exits with 1 at the first value that is not what was published.
"""

import datetime
import json
import pathlib
import sys

import duckdb
import pandas
import pyarrow.parquet


class Number(str):
    """A JSON number with its digits."""


def published(path):
    """The rows of a .jsonl file; numbers keep their digits."""
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line, parse_int=Number, parse_float=Number) for line in lines]


def has_lone_surrogate(text):
    return any("\ud800" <= c <= "\udfff" for c in text)


def readable(text):
    """A text as a column of texts has it: what UTF-8 cannot express is replaced."""
    return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)


def as_text(value):
    """A key field as its column has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, Number) else readable(value)


def parsed(text):
    return json.loads(text, parse_int=Number, parse_float=Number)


def milliseconds(text):
    moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return round(moment.timestamp() * 1000)


class Different(Exception):
    pass


def expect(where, want, have):
    if type(want) is not type(have) or want != have:
        raise Different(f"{where}: published {want!r}, read {have!r}")


def expect_value(where, aggregate, want, have, exact):
    """Compares one value with what a reader has of it; have is None for null."""
    if want is None:
        return expect(where, None, have)
    function, kind = aggregate["func"], aggregate.get("type", "")
    if function == "avg":
        want = float(want)
        if not isinstance(have, float) or want.hex() != have.hex():
            raise Different(f"{where}: published {want!r}, read {have!r}")
    elif function == "count" or (function in ("sum", "min", "max") and kind == "int"):
        expect(where, int(want), have)
    elif kind == "bool":
        expect(where, want, have)
    elif kind == "string":
        expect(where, readable(want), have)
        if has_lone_surrogate(want) and exact is None:
            raise Different(f"{where}: published {want!r}, and values_json is null")
    elif kind == "any":
        expect(where, want, parsed(have))
    else:
        expect(where, str(want), have)


def columns(cases):
    """Names of the columns: what comes from the spec gets a prefix where a name is taken."""
    taken = {"window", "start", "end", "revision", "key", "overflow", "values_json"}

    def free(prefix, name):
        have = name if name.lower() not in taken else prefix + name
        taken.add(have.lower())
        return have

    return (
        [free("key_", path) for path in cases["key"]],
        [free("value_", a["name"]) for a in cases["aggregates"]],
    )


def compare(reader, cases, case, rows, records):
    if len(rows) != len(records):
        raise Different(f"{reader}: {case['file']}: published {len(rows)} rows, read {len(records)}")
    fields, names = columns(cases)
    for i, (row, record) in enumerate(zip(rows, records)):
        where = f"{reader}: {case['file']}: row {i}"
        expect(f"{where}: window", row["window"], record["window"])
        for name in ("start", "end"):
            expect(f"{where}: {name}", milliseconds(row[name]), record[name])
        expect(f"{where}: revision", int(row["revision"]), record["revision"])
        expect(f"{where}: overflow", row.get("overflow", False), record["overflow"])
        expect(f"{where}: key", row["key"], parsed(record["key"]))
        for path, name in zip(cases["key"], fields):
            expect(f"{where}: {name}", as_text(row["key"][path]), record[name])
        exact = record["values_json"]
        if exact is not None:
            expect(f"{where}: values_json", row["values"], parsed(exact))
        for aggregate, name in zip(cases["aggregates"], names):
            expect_value(f"{where}: {name}", aggregate, row["values"][aggregate["name"]], record[name], exact)


def from_duckdb(path):
    found = duckdb.execute(
        """SELECT * REPLACE (epoch_ms("start") AS "start", epoch_ms("end") AS "end")
        FROM read_parquet(?, file_row_number = true) ORDER BY file_row_number""",
        [str(path)],
    )
    names = [d[0] for d in found.description]
    return [dict(zip(names, row)) for row in found.fetchall()]


def from_pandas(path):
    # Without pyarrow's types pandas makes floats of integers with nulls among them, which would be its doing.
    frame = pandas.read_parquet(path, dtype_backend="pyarrow")
    for name in ("start", "end"):
        frame[name] = frame[name].astype("datetime64[ms, UTC]").astype("int64")
    records = frame.astype(object).to_dict(orient="records")
    return [{k: None if v is pandas.NA or v is None else v for k, v in r.items()} for r in records]


def main(directory):
    cases = json.loads((directory / "cases.json").read_text())
    for case in cases["cases"]:
        rows, path = published(directory / case["rows"]), directory / case["file"]
        for name, read in (("duckdb", from_duckdb), ("pandas", from_pandas)):
            compare(name, cases, case, rows, read(path))
            print(f"{name}: {case['file']}: {len(rows)} rows as published")
        metadata = pyarrow.parquet.read_metadata(path)
        header = json.loads(metadata.metadata[b"millrace"])
        expect(f"{case['file']}: keys", len(rows), header["keys"])
        expect(f"{case['file']}: rows", len(rows), metadata.num_rows)
    # All files together, as an archive is read.
    total = duckdb.sql(f"SELECT count(*) FROM '{directory}/everything/*/*.parquet'").fetchall()[0][0]
    expect("all files", sum(1 for c in cases["cases"] for _ in open(directory / c["rows"], encoding="utf-8")), total)


if __name__ == "__main__":
    try:
        main(pathlib.Path(sys.argv[1]))
    except Different as difference:
        sys.exit(f"compare: {difference}")

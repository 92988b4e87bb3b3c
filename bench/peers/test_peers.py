"""python3 -m unittest discover bench/peers: what becomes of samples and of runs."""

import json
import pathlib
import tempfile
import unittest

import onerun
import runs
import table


def a_run(engine, number, engine_cpu, correct=True, seconds=4.0):
    spans = {"seconds": seconds, "engine_cpu": engine_cpu, "kafka_cpu": 1.0, "redis_cpu": 0.5, "temporal_cpu": 0.5}
    verdict = {"expected": 10, "rows": 10 if correct else 9, "wrong": 0, "missing": 0 if correct else 1, "revised": 0, "strange": 0}
    return {"workload": "zipf", "engine": engine, "round": number, "commit": "abc", "time": 0, "load": 0.1, "cores": 2,
            "machine": "m", "build": "", "records": 1_000_000, "complete": correct, "correct": correct, "verdict": verdict,
            "rss_mb": 100, "startup_cpu": 1.0, "whole": spans, "second_half": {**spans, "engine_cpu": engine_cpu / 4}}


class Samples(unittest.TestCase):
    def test_half_of_the_records_lies_between_two_counts(self):
        m = onerun.Measurement(0, None)
        # The count stands still for three samples while processor time goes on, as a worker's does.
        m.samples = [(0.0, 0, {"engine": 0.0}), (1.0, 400, {"engine": 1.0}), (1.5, 400, {"engine": 2.0}), (2.0, 800, {"engine": 3.0})]
        self.assertEqual((1.25, {"engine": 1.5}), m.at_records(500))
        self.assertEqual((2.0, {"engine": 3.0}), m.at_records(800))
        self.assertIsNone(m.at_records(801))


class Tables(unittest.TestCase):
    def read(self, *lines):
        with tempfile.TemporaryDirectory() as d:
            path = pathlib.Path(d) / "runs.jsonl"
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
            return runs.read(path)

    def test_ratios_are_taken_within_rounds(self):
        found = self.read(a_run("millrace", 1, 1.0), a_run("millrace", 2, 4.0), a_run("flink", 1, 2.0), a_run("flink", 2, 8.0))
        of = found["zipf"]
        self.assertEqual(2.0, runs.ratio(of["flink"], of["millrace"], runs.engine_ns))
        self.assertEqual(5000, runs.median(map(runs.engine_ns, of["flink"])))
        self.assertEqual(1000, runs.per_event(of["flink"][0], "second_half", "engine"))

    def test_wrong_runs_count_for_nothing_and_show(self):
        found = self.read(a_run("millrace", 1, 1.0), a_run("flink", 1, 2.0), a_run("flink", 2, 99.0, correct=False))
        of = found["zipf"]
        self.assertEqual(2000, runs.median(map(runs.engine_ns, runs.counted(of["flink"]))))
        text = table.document(found)
        self.assertIn("**1 of them with wrong or incomplete output**", text)
        self.assertIn("**WRONG: round 2: 1 missing, 1,000,000 events read**", text)
        self.assertNotIn("WRONG", table.line("millrace", of["millrace"], of["millrace"]))

    def test_a_document_keeps_what_is_around_the_marks(self):
        with tempfile.TemporaryDirectory() as d:
            path = pathlib.Path(d) / "doc.md"
            path.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
            table.put_into(path, "new\n")
            self.assertEqual(f"before\n{table.BEGIN}\n\nnew\n\n{table.END}\nafter\n", path.read_text())
            path.write_text("no marks")
            with self.assertRaises(SystemExit):
                table.put_into(path, "new")


if __name__ == "__main__":
    unittest.main()

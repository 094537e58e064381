"""Tests of the tables. Run by scripts/compare --check, or `python3 -m unittest` in this folder."""

import json
import pathlib
import tempfile
import unittest

from page import page
from results import Results
from table import BEGIN, END, ahead_lines, text, write_document

ORDER, SCENARIO = ["tidegate", "node-ws", "limit"], "fanout-1"


def data(ratio, p99, failed=(), missing=0, missing_limit=0):
    latency = {"p50": 1.0, "p99": p99}
    series = {"cpu_us_per_unit_median": 2.0, "user_us_per_unit": 0.2, "units_per_second_median": 1e5, "latency_ms": latency}
    return {
        "series": [
            {"name": "server", "rounds": [{"missing": missing}], "generator_cores": 0.4, **series},
            {"name": "limit", "rounds": [{"missing": missing_limit}], "generator_cores": 0.4, **series},
        ],
        "ratios": {"server/limit": {"cpu": ratio}},
        "facts": {"server_rss_per_connection": 500.0},
        "failed": list(failed),
    }


class Tables(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        for peer in ORDER:
            self.peer(peer)

    def peer(self, name, state="installed"):
        (self.folder / f"{name}.peer").write_text(f"title={name}!\nstate={state}\nversion=1=2\n")

    def run_of(self, peer, figures, exit=0, output="", quick=""):
        stem = f"{peer}-{SCENARIO}"
        fields = f"peer={peer}\nscenario={SCENARIO}\nexit={exit}\nquick={quick}\ndate=2026-01-02\ncommand=load --a=b\n"
        (self.folder / f"{stem}.run").write_text(fields)
        (self.folder / f"{stem}.txt").write_text(output)
        if figures is not None:
            (self.folder / f"{stem}.json").write_text(json.dumps(figures))

    def results(self):
        return Results(self.folder, ORDER, [SCENARIO])

    def test_a_peer_that_is_ahead_is_named_and_one_within_noise_is_not(self):
        self.run_of("tidegate", data(1.10, 5.0))
        self.run_of("node-ws", data(1.08, 3.0))
        self.assertEqual(ahead_lines(self.results(), SCENARIO), ["p99, ms: node-ws! (3.00); tidegate 5.00"])

    def test_a_run_without_figures_is_a_row_with_the_reason(self):
        self.run_of("tidegate", data(1.1, 5.0))
        self.run_of("node-ws", None, exit=69, output="starting\nerror: it did not open\x1b its port\n")
        results = self.results()
        self.assertEqual(results.row("node-ws", SCENARIO)[1], "error: it did not open? its port (exit code 69)")
        self.assertIn("error: it did not open? its port", text(results, {}))
        self.run_of("node-ws", None, exit=124)
        self.assertEqual(self.results().row("node-ws", SCENARIO)[1], "took too long")

    def test_loss_stands_beside_the_figures(self):
        self.run_of("node-ws", data(1.1, 5.0, ["server: 3 lost, 0 duplicated"]), exit=1)
        values, reason = self.results().row("node-ws", SCENARIO)
        self.assertEqual((values[1], reason), (1.1, "server: 3 lost, 0 duplicated"))

    def test_faults_of_the_limit_are_not_the_peers(self):
        failed = ["4 deliveries did not come in time", "limit: 2 connections ended by the server"]
        self.run_of("node-ws", data(1.1, 5.0, failed, missing_limit=4), exit=1)
        run = self.results().runs["node-ws", SCENARIO]
        self.assertEqual(run.reason(), "")
        self.assertEqual(len(run.limit_reasons()), 2)
        self.run_of("node-ws", data(1.1, 5.0, failed, missing=1, missing_limit=3), exit=1)
        self.assertEqual(self.results().runs["node-ws", SCENARIO].reason(), failed[0])

    def test_complete_means_every_installed_peer_in_every_scenario(self):
        self.run_of("tidegate", data(1.1, 5.0))
        self.run_of("limit", data(1.0, 5.0), quick="1")
        self.assertFalse(self.results().is_complete)
        self.peer("node-ws", "not installed")
        self.assertTrue(self.results().is_complete and self.results().is_quick)
        self.assertIn("not installed", text(self.results(), {}))

    def test_the_page_escapes_what_servers_say(self):
        self.run_of("node-ws", None, exit=1, output="error: <script>alert(1)</script>\n")
        html = page(self.results(), {"kernel": "<k>"}, ["2026-01-02"], {SCENARIO: []})
        self.assertNotIn("<script>", html)
        self.assertIn("&lt;script&gt;", html)

    def test_only_what_is_between_the_markers_is_replaced(self):
        document = self.folder / "document.md"
        document.write_text(f"head\n{BEGIN}\nold\n{END}\ntail\n")
        write_document(document, "new")
        self.assertEqual(document.read_text(), f"head\n{BEGIN}\n\nnew\n\n{END}\ntail\n")
        document.write_text("no markers")
        with self.assertRaises(SystemExit):
            write_document(document, "new")


if __name__ == "__main__":
    unittest.main()

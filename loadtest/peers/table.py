"""Builds the tables of scripts/compare. Standard library only.

`table.py line FOLDER PEER SCENARIO` prints one run in a line.
`table.py write FOLDER DOCUMENT PEERS SCENARIOS` prints all as text and writes compare.txt, compare.json and compare.html
into the folder, and the part of DOCUMENT between its markers if the results are complete and none is quick.
"""

import json
import pathlib
import sys

from machine import machine
from page import page
from results import SCENARIOS, Results, shown

BEGIN, END = "<!-- compare: begin, written by scripts/compare -->", "<!-- compare: end -->"


def line(results, peer, scenario):
    columns = SCENARIOS[scenario][0]
    values, reason = results.row(peer, scenario)
    figures = [f"{column.heading} {shown(value, column.decimals)}" for column, value in zip(columns, values) if value is not None]
    return f"   {results.peers[peer].title:<20} " + "; ".join(figures + ([f"FAILED {reason}"] if reason else []))


def ahead_lines(results, scenario):
    """Where others do better, in words."""
    lines = []
    for column, ours, better in results.ahead(scenario):
        names = ", ".join(f"{title} ({shown(value, column.decimals)})" for title, value in better)
        lines.append(f"{column.heading}: {names}; tidegate {shown(ours, column.decimals)}")
    return lines


def text(results, facts):
    out = [", ".join(f"{key} {value}" for key, value in facts.items() if "." not in key)]
    for peer in results.peer_names:
        out.append(f"{results.peers[peer].title:<20} {results.peers[peer].version or results.peers[peer].state}")
    for scenario in results.scenarios:
        columns, _, words = SCENARIOS[scenario]
        out += ["", f"{scenario}: {words}"]
        widths = [max(len(part) for part in column.heading.split()) for column in columns]
        widths = [max(width, 9) for width in widths]
        headings = [wrap(column.heading, width) for column, width in zip(columns, widths)]
        height = max(len(heading) for heading in headings)
        for level in range(height):
            # Headings end on the same line.
            cells = [([""] * (height - len(heading)) + heading)[level] for heading in headings]
            out.append((" " * 20 + "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths))).rstrip())
        for peer in results.peer_names:
            values, reason = results.row(peer, scenario)
            cells = [shown(value, column.decimals) for column, value in zip(columns, values)]
            if reason and all(value is None for value in values):
                out.append(f"{results.peers[peer].title:<20}  {reason}")
                continue
            row = "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths))
            out.append(f"{results.peers[peer].title:<20}{row}{'  !' if reason else ''}")
        out += [f"! {remark}" for remark in results.remarks(scenario)] + results.warnings(scenario)
        out += [f"ahead of tidegate in {remark}" for remark in ahead_lines(results, scenario)]
    return "\n".join(out) + "\n"


def wrap(heading, width):
    """The words of a heading in lines of at most `width`."""
    lines = [""]
    for word in heading.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def as_json(results, facts):
    return {
        "machine": facts,
        "dates": dates(results),
        "quick": results.is_quick,
        "complete": results.is_complete,
        "peers": {name: vars(results.peers[name]) for name in results.peer_names},
        "scenarios": {
            scenario: {
                "what": SCENARIOS[scenario][2],
                "figures": {column.key: column.heading for column in SCENARIOS[scenario][0]},
                "rows": {name: json_row(results, name, scenario) for name in results.peer_names},
                "ahead_of_tidegate": ahead_lines(results, scenario),
                "remarks": results.remarks(scenario) + results.warnings(scenario),
            }
            for scenario in results.scenarios
        },
    }


def json_row(results, peer, scenario):
    values, reason = results.row(peer, scenario)
    run = results.runs.get((peer, scenario))
    figures = {column.key: value for column, value in zip(SCENARIOS[scenario][0], values)}
    where = {"command": run.command, "date": run.date} if run else {"command": None, "date": None}
    return {**figures, "failure": reason or None, **where}


def dates(results):
    return sorted({run.date for run in results.runs.values()})


def markdown(results, facts):
    machine_words = [f"{value} cores" if key == "cores" else value for key, value in facts.items() if "." not in key]
    runs = [results.runs.get((name, scenario)) for name in results.peer_names for scenario in results.scenarios]
    out = [
        f"Taken on {' and '.join(dates(results))} on {', '.join(machine_words)}.",
        "",
        "| Server | Version | Settings |",
        "|---|---|---|",
    ]
    for name in results.peer_names:
        peer = results.peers[name]
        out.append(f"| {peer.title} | {peer.version or peer.state} | [notes](../loadtest/peers/{name}/README.md) |")
    for scenario in results.scenarios:
        columns, _, words = SCENARIOS[scenario]
        out += ["", f"### {scenario}", "", words, ""]
        out.append("| Server | " + " | ".join(column.heading for column in columns) + " |")
        out.append("|---|" + "---:|" * len(columns))
        for name in results.peer_names:
            values, reason = results.row(name, scenario)
            cells = [shown(value, column.decimals) for column, value in zip(columns, values)]
            title = results.peers[name].title + (" (!)" if reason else "")
            out.append(f"| {title} | " + " | ".join(cells) + " |")
        remarks = results.remarks(scenario)
        if remarks:
            out += [""] + [f"- (!) {remark.replace('|', '/')}" for remark in remarks]
        for warning in results.warnings(scenario):
            out += ["", warning]
        ahead = ahead_lines(results, scenario)
        out += ["", "Ahead of tidegate by more than 5 %:" if ahead else "Nobody is ahead of tidegate by more than 5 %."]
        if ahead:
            out += [""] + [f"- {remark}" for remark in ahead]
    out += ["", "### Commands", "", "`make compare` runs all of these; one of them alone, after `scripts/install-peers`:", "", "```"]
    out += [run.command for run in runs if run]
    sysctls = ", ".join(f"`{key}` {value}" for key, value in facts.items() if "." in key)
    out += ["```", "", f"Of the kernel: {sysctls}."]
    return "\n".join(out)


def write_document(path, generated):
    """Replaces what is between the markers, and nothing else."""
    whole = path.read_text()
    head, found, rest = whole.partition(BEGIN)
    _, found_end, tail = rest.partition(END)
    if not (found and found_end):
        sys.exit(f"{path} lacks the markers '{BEGIN}' and '{END}'")
    path.write_text(f"{head}{BEGIN}\n\n{generated}\n\n{END}{tail}")


def write(folder, document, peer_order, scenario_order):
    results, facts = Results(folder, peer_order, scenario_order), machine()
    folder = pathlib.Path(folder)
    summary = text(results, facts)
    print(summary)
    (folder / "compare.txt").write_text(summary)
    (folder / "compare.json").write_text(json.dumps(as_json(results, facts), indent=1) + "\n")
    ahead = {name: ahead_lines(results, name) for name in results.scenarios}
    (folder / "compare.html").write_text(page(results, facts, dates(results), ahead))
    print(f"written: {folder}/compare.txt, .json and .html")
    if results.is_complete and not results.is_quick:
        write_document(pathlib.Path(document), markdown(results, facts))
        print(f"written: {document}")
    else:
        print(f"{document} is left as it is: only a complete run without --quick is written there")


def main(arguments):
    match arguments:
        case ["line", folder, peer, scenario]:
            print(line(Results(folder), peer, scenario))
        case ["write", folder, document, peers, scenarios]:
            write(folder, document, peers.split(), scenarios.split())
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])

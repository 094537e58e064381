"""The comparison as one self-contained HTML page: light and dark, wide and narrow, without scripts or any network.

On a narrow screen a row of a table becomes a block of named figures. Standard library only.
"""

from html import escape

from results import LIMIT, OURS, SCENARIOS, shown

STYLE = """
:root { color-scheme: light dark; --ground: #fbfbfa; --card: #ffffff; --ink: #1c2226; --quiet: #5c676f; --line: #dfe3e6;
  --bar: #a9b7c2; --ours: #0b7a75; --limit: #d3c08a; --bad: #a8321f; --bad-ground: #fbeae6; }
@media (prefers-color-scheme: dark) { :root { --ground: #14181b; --card: #1b2125; --ink: #e4e9ec; --quiet: #9aa6ae;
  --line: #2e373d; --bar: #55646f; --ours: #35b3a8; --limit: #8d7d4a; --bad: #f0917f; --bad-ground: #35211d; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 24px 20px 64px; }
h1 { font-size: 26px; line-height: 1.25; margin: 8px 0 4px; }
h2 { font-size: 19px; margin: 0 0 2px; }
h3 { font-size: 14px; margin: 18px 0 6px; }
p { margin: 0 0 10px; } .quiet { color: var(--quiet); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px; margin-top: 20px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 10px; text-align: right; border-bottom: 1px solid var(--line); vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tbody tr:last-child td { border-bottom: 0; }
th { font-size: 12.5px; font-weight: 600; color: var(--quiet); }
tr.ours td { font-weight: 600; } tr.ours td:first-child { color: var(--ours); }
td.best span { text-decoration: underline; text-decoration-color: var(--ours); text-underline-offset: 3px; text-decoration-thickness: 2px; }
td.reason { text-align: left; color: var(--bad); font-weight: 400; overflow-wrap: anywhere; }
.bars { display: grid; grid-template-columns: max-content 1fr; gap: 5px 12px; align-items: center; margin: 4px 0 16px; }
.bars .name { font-size: 13.5px; } .bars .track { display: flex; align-items: center; gap: 8px; min-width: 0; }
.bars i { display: block; height: 14px; min-width: 2px; border-radius: 3px; background: var(--bar); flex: none; }
.bars i.ours { background: var(--ours); } .bars i.limit { background: var(--limit); }
.bars b { font-weight: 500; font-size: 13px; font-variant-numeric: tabular-nums; }
ul { margin: 6px 0 0; padding-left: 18px; } li { overflow-wrap: anywhere; }
.faults { color: var(--bad); background: var(--bad-ground); border-radius: 8px; padding: 8px 12px 8px 28px; margin-top: 12px; list-style: disc; }
p.note { margin-top: 12px; font-size: 13.5px; }
details { margin-top: 12px; } summary { cursor: pointer; color: var(--quiet); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 12.5px; margin: 8px 0 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 16px; margin: 0; } dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 720px) {
  main { padding: 16px 12px 48px; } section { padding: 14px; } h1 { font-size: 22px; }
  table.figures thead { display: none; }
  table.figures, table.figures tbody { display: block; }
  table.figures tr { display: grid; grid-template-columns: 1fr 1fr; column-gap: 16px; padding: 10px 0; border-bottom: 1px solid var(--line); }
  table.figures tr:last-child { border-bottom: 0; }
  table.figures td { display: flex; justify-content: space-between; align-items: baseline; gap: 8px; border: 0; padding: 1px 0; }
  table.figures td:first-child { grid-column: 1 / -1; font-weight: 600; }
  table.figures td[data-name]::before { content: attr(data-name); color: var(--quiet); font-weight: 400; font-size: 12.5px; text-align: left; }
  table.figures td.reason { grid-column: 1 / -1; }
  dl { grid-template-columns: 1fr; } dd { margin-bottom: 6px; }
}
"""


def kind(name):
    return {OURS: "ours", LIMIT: "limit"}.get(name, "")


def bars(results, scenario):
    """The scenario's own figure as one bar a peer, from zero."""
    columns, key, _ = SCENARIOS[scenario]
    index = next(index for index, column in enumerate(columns) if column.key == key)
    column = columns[index]
    values = {name: results.row(name, scenario)[0][index] for name in results.peer_names}
    if key == "ratio":
        values[LIMIT] = 1.0 if LIMIT in values else None
    present = {name: value for name, value in values.items() if value is not None and value >= 0}
    if not present:
        return ""
    longest = max(present.values()) or 1
    rows = [
        f'<span class="name">{escape(results.peers[name].title)}</span><span class="track">'
        f'<i class="{kind(name)}" style="width:calc((100% - 64px) * {value / longest:.4f})"></i><b>{shown(value, column.decimals)}</b></span>'
        for name, value in sorted(present.items(), key=lambda item: item[1] * -(column.better or -1))
    ]
    better = "shorter is better" if column.better < 0 else "longer is better"
    return f'<h3>{escape(column.heading)} <span class="quiet">({better})</span></h3><div class="bars">{"".join(rows)}</div>'


def best_of(results, scenario):
    """Of each column with a rank, the best figure among the servers; the limit is not one."""
    best = []
    for index, column in enumerate(SCENARIOS[scenario][0]):
        values = [results.row(name, scenario)[0][index] for name in results.peer_names if name != LIMIT]
        values = [value for value in values if value is not None]
        best.append(None if not column.better or not values else max(values, key=lambda value: value * column.better))
    return best


def table(results, scenario):
    columns = SCENARIOS[scenario][0]
    best = best_of(results, scenario)
    head = "".join(f"<th>{escape(column.heading)}</th>" for column in columns)
    rows = []
    for name in results.peer_names:
        values, reason = results.row(name, scenario)
        if all(value is None for value in values):
            cells = f'<td class="reason" colspan="{len(columns)}">{escape(reason or "no figures")}</td>'
        else:
            cells = "".join(
                f'<td data-name="{escape(column.heading)}"{" class=best" if name != LIMIT and value is not None and value == top else ""}>'
                f"<span>{shown(value, column.decimals)}</span></td>"
                for column, value, top in zip(columns, values, best)
            )
        mark = " (!)" if reason else ""
        rows.append(f'<tr class="{kind(name)}"><td>{escape(results.peers[name].title)}{mark}</td>{cells}</tr>')
    return f'<table class="figures"><thead><tr><th>Server</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def section(results, scenario, ahead):
    remarks = results.remarks(scenario)
    faults = f'<ul class="faults">{items(remarks)}</ul>' if remarks else ""
    warnings = "".join(f'<p class="quiet note">{escape(warning)}</p>' for warning in results.warnings(scenario))
    told = f"<h3>Ahead of tidegate by more than 5 %</h3><ul>{items(ahead)}</ul>" if ahead else ""
    runs = [results.runs[name, scenario].command for name in results.peer_names if (name, scenario) in results.runs]
    commands = f"<details><summary>Commands</summary><pre>{escape(chr(10).join(runs))}</pre></details>"
    return (
        f'<section><h2>{escape(scenario)}</h2><p class="quiet">{escape(SCENARIOS[scenario][2])}</p>'
        f"{bars(results, scenario)}{table(results, scenario)}{faults}{warnings}{told}{commands}</section>"
    )


def items(lines):
    return "".join(f"<li>{escape(line)}</li>" for line in lines)


def definitions(pairs):
    return "<dl>" + "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in pairs) + "</dl>"


def page(results, facts, dates, ahead):
    """The whole page."""
    quick = "<p><b>A quick run: it shows that all works, its figures say little.</b></p>" if results.is_quick else ""
    versions = [(results.peers[name].title, results.peers[name].version or results.peers[name].state) for name in results.peer_names]
    sections = "".join(section(results, scenario, ahead[scenario]) for scenario in results.scenarios)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>tidegate compared</title><style>{STYLE}</style></head><body><main>
<h1>tidegate compared with other WebSocket servers</h1>
<p class="quiet">{escape(" and ".join(dates))}. One core each, the same load, every message verified by every subscriber. The limit is a bare
<code>send</code> loop that was measured in the same run, in alternating rounds: ratios to it survive a busy machine, absolute figures do not.
The best figure of a column is underlined.</p>{quick}
{sections}
<section><h2>Servers</h2><p class="quiet">Each in its best-known settings; the reasons are in loadtest/peers.</p>{definitions(versions)}</section>
<section><h2>Machine</h2>{definitions(facts.items())}</section>
</main></body></html>
"""

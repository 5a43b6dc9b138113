"""Tables for a terminal, for markdown and for HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from icl_bayes.benchmark.tables import AT_FLOOR, FLOOR_ROW, MISSING, PUBLISHED, Table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

_RICH_STYLES = {AT_FLOOR: "bold green", FLOOR_ROW: "dim", MISSING: "red", PUBLISHED: "italic"}


def to_rich(table: Table) -> RichTable:
    """A table for a rich console; its notes are left to `print_tables`."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    rich_table = RichTable(title=Text(table.title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD)
    for index, column in enumerate(table.columns):
        # Headers and names may wrap, numbers may not.
        longest = 8 if index == 0 or table.text_only else max((len(row[index].text) for row in table.rows), default=0)
        rich_table.add_column(
            Text(column),
            justify="left" if index == 0 or table.text_only else "right",
            overflow="fold",
            min_width=longest,
        )
    for row in table.rows:
        rich_table.add_row(*(Text(cell.text, style=_RICH_STYLES.get(cell.role, "")) for cell in row))
    return rich_table


def print_tables(tables: Sequence[Table], console: Console | None = None) -> None:
    """Print tables one after the other, and each note once at the end.

    Output that goes to a file or a pipe is as wide as the tables need.
    """
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    for table in tables:
        rich_table = to_rich(table)
        if not console.is_terminal:
            needed = sum(max(len(cell.text) for cell in column) + 2 for column in zip(*table.rows, strict=True)) + 24
            console = Console(file=console.file, width=max(console.width, needed), color_system=None)
        console.print(rich_table)
    for note in dict.fromkeys(note for table in tables for note in table.notes):
        console.print(Text(note, style="dim"))


def to_markdown(table: Table) -> str:
    """A pipe table under its title, notes below."""

    def line(texts: list[str]) -> str:
        return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"

    rows = [line([f"**{cell.text}**" if cell.role == AT_FLOOR else cell.text for cell in row]) for row in table.rows]
    rule = "|---" + ("|---" if table.text_only else "|--:") * (len(table.columns) - 1) + "|"
    notes = [f"\n{' '.join(table.notes)}"] if table.notes else []
    return "\n".join([f"**{table.title}**", "", line(list(table.columns)), rule, *rows, *notes]) + "\n"


def to_html(table: Table, *, with_title: bool = True, with_notes: bool = True) -> str:
    """A ``<table>`` with classes for the roles of its cells; every text is escaped."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in table.columns)
    body = []
    for row in table.rows:
        cells = []
        for index, cell in enumerate(row):
            tag = "th" if index == 0 else "td"
            role = f' class="{cell.role}"' if cell.role else ""
            cells.append(f"<{tag}{role}>{html.escape(cell.text)}</{tag}>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    title = f"<h3>{html.escape(table.title)}</h3>" if with_title else ""
    notes = "".join(f"<p class='note'>{html.escape(note)}</p>" for note in table.notes if with_notes)
    kind = ' class="text"' if table.text_only else ""
    table_html = f"<table{kind}><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f"{title}<div class='scroll'>{table_html}</div>{notes}"

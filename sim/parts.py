"""Tables in parts: rows are gathered and written as closed Parquet files, so that a kill loses the open part only."""

import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fedsched.sim.files import replace_file

PART_ROWS = 50_000
"""Rows after which a part is closed."""
PART_S = 30.0
"""Seconds after which a part is closed."""

METRICS = pa.schema(
    [
        ("time", pa.float64()),
        ("site", pa.dictionary(pa.int16(), pa.string())),
        ("agent", pa.dictionary(pa.int16(), pa.string())),
        ("name", pa.dictionary(pa.int16(), pa.string())),
        ("value", pa.float64()),
    ]
)
"""Long rows: one number each."""

FRAMES = pa.schema(
    [
        ("time", pa.float64()),
        ("site", pa.dictionary(pa.int16(), pa.string())),
        ("row", pa.int32()),
        ("kind", pa.dictionary(pa.int16(), pa.string())),
        ("data", pa.large_binary()),
    ]
)
"""Replays: a moment each, in the form of its domain."""

FRAME_ROWS = 1_000
"""Frames after which a part is closed."""


class PartWriter:
    """Appends rows to the parts of one table.

    Args:
        folder: Where the parts are; made with the first of them.
        schema: Columns of the table.
        most: Rows after which a part is closed; by default PART_ROWS.
    """

    def __init__(self, folder: Path, schema: pa.Schema, most: int | None = None) -> None:
        self._folder, self._schema, self._most = folder, schema, most
        self._rows: list[Sequence[object]] = []
        self._opened_s = 0.0
        self.parts = len(list_parts(folder))

    def add(self, rows: Sequence[Sequence[object]]) -> None:
        """Takes rows in the order of the schema's columns; closes the part when it is large or old enough."""
        if not self._rows:
            self._opened_s = time.monotonic()
        self._rows.extend(rows)
        self.close_due()

    def close_due(self) -> None:
        """Closes the part if it is large or old enough."""
        if len(self._rows) >= (self._most or PART_ROWS) or time.monotonic() - self._opened_s >= PART_S:
            self.close_part()

    def close_part(self) -> None:
        """Writes the open part, if there is one; from then on a kill cannot take it away."""
        if not self._rows:
            return
        columns = zip(*self._rows, strict=True)
        table = pa.table(
            [pa.array(column, type=field.type) for column, field in zip(columns, self._schema, strict=True)],
            schema=self._schema,
        )
        self._folder.mkdir(exist_ok=True)
        with replace_file(self._folder / f"part-{self.parts:06d}.parquet") as temporary:
            pq.write_table(table, temporary, compression="zstd")
        self.parts += 1
        self._rows = []


def list_parts(folder: Path) -> list[Path]:
    """The closed parts of a table, in order."""
    return sorted(folder.glob("part-*.parquet"))


def read_parts(folder: Path, schema: pa.Schema) -> pa.Table:
    """All closed parts as one table; empty where there are none."""
    tables = [pq.read_table(part, schema=schema) for part in list_parts(folder)]
    return pa.concat_tables(tables).unify_dictionaries() if tables else schema.empty_table()

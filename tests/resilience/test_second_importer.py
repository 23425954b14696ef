"""Two importers of one file: the second one harms neither the records nor the rejects of the first."""

from __future__ import annotations

from pathlib import Path

import pytest

from consent.errors import ImportUnderWay
from consent.imports import ImportProgress, ImportSource
from producers.files.sources import SourceFile
from producers.options import IngestOptions
from tests.support.memory_ledger import MemoryLedger, csv_of, take_in

ROWS = ["1,SMS,OPTOUT,", "2,FAX,OPTOUT,", "3,SMS,OPTOUT,", "4,FAX,OPTOUT,"]


class OvertakenLedger(MemoryLedger):
    """A ledger in which another importer reads the whole file right after this one has looked where it stands."""

    overtaken_by: SourceFile | None = None

    def open_import(self, source: ImportSource) -> ImportProgress:
        """Say where the import stood before it was overtaken."""
        progress = super().open_import(source)
        file, self.overtaken_by = self.overtaken_by, None
        if file is not None:
            take_in(file, self, IngestOptions(chunk_rows=2))
        return progress


def test_an_importer_that_was_overtaken_leaves_the_rejects_alone(tmp_path: Path) -> None:
    """It started while the other was at work and is refused: the rejected rows of the other are all still there."""
    ledger = OvertakenLedger()
    file = csv_of(tmp_path / "x.csv", ROWS)
    ledger.overtaken_by = file

    with pytest.raises(ImportUnderWay):
        take_in(file, ledger, IngestOptions(chunk_rows=4))

    assert [line.split(",")[0] for line in file.rejects_path.read_text().splitlines()] == ["_line", "3", "5"]

"""Workbooks for tests: written by a library as a spreadsheet program would, or from XML of our own for odd ones."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from types import MappingProxyType
from typing import Any

import xlsxwriter

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"


def workbook(
    rows: Sequence[Sequence[Any]],
    *,
    sheet: str = "Contacts",
    others: Sequence[str] = (),
    first: int = 0,
    tables: Mapping[str, Sequence[Sequence[Any]]] = MappingProxyType({}),
) -> bytes:
    """Write rows into a sheet, numbers as numbers and dates as dates; `first` rows above stay empty.

    `others` are empty sheets behind it, `tables` the rows of more sheets by name.
    """
    found = io.BytesIO()
    with xlsxwriter.Workbook(found, {"default_date_format": "dd.mm.yyyy hh:mm"}) as book:
        for name, table in ({sheet: rows} | dict(tables)).items():
            page = book.add_worksheet(name)
            for number, row in enumerate(table, first):
                for column, cell in enumerate(row):
                    _write(page, number, column, cell)
        for name in others:
            book.add_worksheet(name)
    return found.getvalue()


def _write(page: Any, row: int, column: int, cell: Any) -> None:
    if isinstance(cell, datetime | date):
        page.write_datetime(row, column, cell)
    elif isinstance(cell, str):
        page.write_string(row, column, cell)
    elif cell is not None:
        page.write(row, column, cell)


def odd_workbook(
    rows: str,
    *,
    formats: Sequence[str] = (),
    since_1904: bool = False,
    shared: str = "",
    merged: Sequence[str] = (),
) -> bytes:
    """Make a workbook whose sheet holds this XML between its <sheetData>; cells with s="1" have the first format.

    `merged` are ranges like B5:B7.
    """
    merges = "".join(f'<mergeCell ref="{one}"/>' for one in merged)
    codes = "".join(f'<numFmt numFmtId="{200 + n}" formatCode="{code}"/>' for n, code in enumerate(formats))
    styles = "".join(f'<xf numFmtId="{200 + n}"/>' for n in range(len(formats)))
    parts = {
        "[Content_Types].xml": "<Types/>",
        "_rels/.rels": _relations(("officeDocument", "/xl/workbook.xml")),
        "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><workbookPr date1904="{int(since_1904)}"/>'
        '<sheets><sheet name="Contacts" sheetId="1" r:id="r0"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": _relations(
            ("worksheet", "s/one.xml"), ("styles", "styles.xml"), ("sharedStrings", "texts.xml")
        ),
        "xl/styles.xml": f'<x:styleSheet xmlns:x="{_MAIN}"><numFmts xmlns="{_MAIN}">{codes}</numFmts>'
        f'<cellXfs xmlns="{_MAIN}"><xf numFmtId="0"/>{styles}</cellXfs></x:styleSheet>',
        "xl/texts.xml": f'<sst xmlns="{_MAIN}">{shared}</sst>',
        "xl/s/one.xml": f'<worksheet xmlns="{_MAIN}"><sheetData>{rows}</sheetData>'
        f"<mergeCells>{merges}</mergeCells></worksheet>",
    }
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in parts.items():
            packed.writestr(name, content)
    return found.getvalue()


def _relations(*parts: tuple[str, str]) -> str:
    found = "".join(
        f'<Relationship Id="r{n}" Type="{_OFFICE}/{kind}" Target="{target}"/>' for n, (kind, target) in enumerate(parts)
    )
    return f'<Relationships xmlns="{_PACKAGE}">{found}</Relationships>'

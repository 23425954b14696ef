"""The picture of the README: what the real demo prints, as an SVG that loads nothing from elsewhere.

`make picture` writes docs/demo.svg.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import chdir
from pathlib import Path

from console.demo.demo import deliver_and_prove
from console.ui.screen import Screen, recording_console

WIDTH = 118
_ROWS = 2_000
_FOLDER = Path(".demo")
_FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
    <style>
    .{unique_id}-matrix {{
        font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
        font-size: {char_height}px;
        line-height: {line_height}px;
    }}
    .{unique_id}-title {{
        font-size: 18px;
        font-weight: bold;
        font-family: sans-serif;
    }}
    {styles}
    </style>
    <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
    {lines}
    </defs>
    {chrome}
    <g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
    </g>
</svg>
"""
"""rich's own template without its fonts, which it would load from a server."""


def picture() -> str:
    """Run the demo in a folder that is removed afterwards; return what it printed as SVG.

    Raises RuntimeError if the demo does not prove itself: such a picture would be a lie.
    """
    screen = Screen()
    screen.out, screen.err = recording_console(WIDTH), recording_console(WIDTH)
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        screen.show("$ optrelay demo", "bold")
        if not deliver_and_prove(screen, _FOLDER, _ROWS):
            raise RuntimeError("the demo does not prove itself: see `optrelay demo`")
    return screen.out.export_svg(title="optrelay demo", code_format=_FORMAT, unique_id="demo")


def main() -> None:
    """Write the picture into the file that is named."""
    (path,) = sys.argv[1:]
    svg = picture()
    lines = (line.rstrip() for line in svg.splitlines())
    Path(path).write_text("\n".join(line for line in lines if line) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

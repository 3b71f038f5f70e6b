"""Look at every link of the built site: ``python docs/_site/check_links.py build/site``.

Links within the site have to lead to a page and a place that exist. Nothing may be fetched from
elsewhere to show a page. Of links that lead elsewhere only the form is checked.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

FETCHED: Final = {"img": "src", "script": "src", "link": "href", "iframe": "src", "object": "data"}


class Page(HTMLParser):
    """What a page links to, what it fetches, and the places in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag has."""
        values = {name: value for name, value in attrs if value is not None}
        self.places.update(values[name] for name in ("id", "name") if name in values)
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag in FETCHED and FETCHED[tag] in values:
            self.fetched.append(values[FETCHED[tag]])


def find_faults(site: Path) -> Iterator[str]:
    """Yield what is wrong, a line each."""
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        for link in page.fetched:
            if urlsplit(link).netloc:
                yield f"{path}: {link} is fetched from elsewhere"
            elif link and not (path.parent / unquote(urlsplit(link).path)).exists():
                yield f"{path}: {link} does not exist"
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if parts.scheme not in ("http", "https") or "." not in parts.netloc:
                    yield f"{path}: {link} is not a link to a site"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                yield f"{path}: {link} leads nowhere"
                continue
            place = unquote(parts.fragment)
            if place and target in pages and place not in pages[target].places:
                yield f"{path}: there is no such place: {link}"


def main() -> None:
    """Print what is wrong; exit with 1 if anything is."""
    faults = list(find_faults(Path(sys.argv[1]).resolve()))
    sys.exit("\n".join(faults) if faults else 0)


if __name__ == "__main__":
    main()

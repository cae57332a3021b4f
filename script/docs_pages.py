"""A MkDocs hook that creates pages of the site from other documents of the repository, to avoid duplication.

Links are relative to the repository and are resolved to the pages of the site here.
"""

import pathlib
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Page → document, and its section if not the whole document.
PAGES = {
    "executor.md": ("CONTRIBUTING.md", "An executor"),
    "exporting.md": ("models/export/README.md", None),
    "contributing.md": ("CONTRIBUTING.md", None),
    "design.md": ("DESIGN.md", None),
}
CODE_OR_LINK = re.compile(r"```.*?^ *```|`[^`]*`|\[([^\]]*)\]\(([^)\s]*)\)", re.DOTALL | re.MULTILINE)


def section_of(text, title):
    """The section from its heading to the next one of the same level, as a page."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    if not found:
        raise KeyError(f"no section '{title}'")
    return f"# {title}\n{found[1]}".replace("\n### ", "\n## ")


def anchor_of(title):
    return re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")


def relinked(text, document):
    """Replaces links to other documents by links to their pages; links to files without a page become text."""
    whole = {source: page for page, (source, section) in PAGES.items() if section is None}
    parts = {(source, anchor_of(section)): page for page, (source, section) in PAGES.items() if section}

    def replace(match):
        label, target = match[1], match[2]
        if target is None or re.match(r"https?:", target):
            return match[0]
        path, _, anchor = target.partition("#")
        file = (ROOT / document).parent.joinpath(path).resolve().relative_to(ROOT).as_posix() if path else document
        if (file, anchor) in parts:
            return f"[{label}]({parts[file, anchor]})"
        page = file.removeprefix("docs/") if re.fullmatch(r"docs/[a-z]+\.md", file) else whole.get(file)
        return f"[{label}]({page}{'#' + anchor if anchor else ''})" if page else label

    return CODE_OR_LINK.sub(replace, text)


def on_page_markdown(markdown, page, config, files):
    return markdown if page.file.src_uri in PAGES else relinked(markdown, f"docs/{page.file.src_uri}")


def on_files(files, config):
    for page, (document, section) in PAGES.items():
        text = (ROOT / document).read_text()
        content = relinked(section_of(text, section) if section else text, document)
        files.append(File.generated(config, page, content=content))
    return files

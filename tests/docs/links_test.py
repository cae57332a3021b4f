"""usage: links_test.py REPOSITORY

Links between the documents of the repository lead to files that it has, and to headings in them. What they become on
the site is checked where the site is made (docs.site).
"""

import re
import sys
from pathlib import Path

root = Path(sys.argv[1])
CODE_OR_LINK = re.compile(r"```.*?^ *```|`[^`]*`|\[[^\]]*\]\(([^)\s]*)\)", re.DOTALL | re.MULTILINE)


def anchors(document):
    """Of its headings, as GitHub and MkDocs call them."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in titles}


documents = [*root.glob("*.md"), *root.glob("docs/*.md"), *root.glob("models/**/*.md"), *root.glob("examples/**/*.md")]
broken, count = [], 0
for document in documents:
    for target in CODE_OR_LINK.findall(document.read_text()):
        if not target or re.match(r"https?:", target):
            continue
        count += 1
        path, _, anchor = target.partition("#")
        file = document.parent / path if path else document
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(f"{document.relative_to(root)}: {target}")
# So do names of files in running text; headers may leave out include/.
files = 0
for document in (root / "CONTRIBUTING.md", root / "DESIGN.md"):
    text = re.sub(r"^ *```.*?^ *```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    for name in re.findall(r"`([\w.-]+(?:/[\w.-]+)+\.(?:cpp|h|hpp|inl|py|md|txt|cmake)|(?:[\w-]+/){2,})`", text):
        files += 1
        if not any((folder / name).exists() for folder in (root, root / "include")):
            broken.append(f"{document.relative_to(root)}: {name}")
assert files > 40, files
assert len(documents) > 10 and count > 30, (documents, count)
assert not broken, "\n".join(broken)
print(f"{count} links")

"""Lookup of names in different spellings."""

import difflib

from .errors import InputError


def plain(name):
    """'SparseCategoricalCrossentropy', 'sparse_categorical_crossentropy' → 'sparsecategoricalcrossentropy'."""
    return "".join(c for c in name.lower() if c.isalnum() or c in ":")


def find(name, known, what):
    """known[plain(name)]; otherwise raises InputError with the closest name."""
    key = plain(name)
    if key in known:
        return known[key]
    near = difflib.get_close_matches(key, known, n=1)
    raise InputError(
        f"{what}: {', '.join(sorted({str(v) for v in known.values()}))}",
        f"'{name}'",
        f"did you mean '{near[0]}'?" if near else "",
    )

"""Graders of the tutorials' exercises, one module a page: they say whether an answer is right, never the answer."""


def verdict(ok: bool, praise: str, hint: str) -> str:
    """Print and return one line: "right: PRAISE" if `ok`, else "not yet: HINT"."""
    line = f"right: {praise}" if ok else f"not yet: {hint}"
    print(line)
    return line

"""The words of the code: plain technical English in names, docstrings and the names of tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.processes import ROOT

pytestmark = pytest.mark.sqlite

FOLDERS = (
    ".", "bench", "commands", "deploy", "dev", "embedding", "loadbay_client", "migrations", "schemas", "storage",
    "tests", "web",
)  # fmt: skip
PRIVATE_WORDS = {
    "afresh", "anew", "apart", "asked", "aside", "away", "bare", "begun", "beside", "bury", "came", "elsewhere",
    "farewell", "format_", "found", "gave_up", "given", "gone", "heard", "here", "id_", "in_words", "kept", "litter",
    "made", "meant", "nobody", "patience", "patient", "peek", "said", "seen", "sorry", "tally", "there", "told",
    "truth", "unkept", "went", "whoever", "wholenumber", "wire", "words",
}  # fmt: skip
"""Names that say nothing to a reader: past participles, adverbs and everyday words in place of the field's terms."""
PRIVATE_PARTS = {"asked", "aside", "begun", "bury", "heard", "kept", "patience", "said", "sorry", "told"}
"""Words that are no part of a longer name either, such as `told_name`."""
FORBIDDEN_OPENERS = {
    "as", "everybody", "everything", "he", "here", "how", "i", "it", "its", "nobody", "nothing", "she", "somebody",
    "that", "there", "they", "this", "those", "we", "what", "whatever", "when", "whenever", "where", "wherever",
    "whether", "which", "who", "whoever", "whom", "whose", "why", "you",
}  # fmt: skip
BRITISH = re.compile(
    r"(?:author|initial|normal|optim|organ|recogn|serial|summ[a]r|synchron|util)is(?:e|ing|ation|er)"
    r"|(?:behavi|col|fav|hon)our|analys(?:e|ing)|artef|(?:^|[^a-z])(?:cent[r]e|gre[y]|judgem|licenc|learnt|spelt|whils)",
    re.IGNORECASE,
)
JAVASCRIPT_STRINGS = re.compile(
    r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`", re.DOTALL
)


def python_files(folder: str) -> list[Path]:
    """List the Python files of a folder; `.` is the root without its folders."""
    paths = (ROOT / folder).glob("*.py") if folder == "." else (ROOT / folder).rglob("*.py")
    return sorted(path for path in paths if "node_modules" not in path.parts)


def parse(folder: str) -> Iterator[tuple[Path, ast.Module]]:
    """Parse the Python files of a folder."""
    for path in python_files(folder):
        yield path, ast.parse(path.read_text())


def defined_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and name of each variable, parameter, attribute, function and class that a module defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield getattr(node, "lineno", 1), node.asname
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.lineno, node.name


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and text of each docstring of a module, class or function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield node.body[0].lineno, text


def is_private_word(name: str) -> bool:
    """Return whether a name is a private word, or has one as a part."""
    stripped = name.lstrip("_").lower()
    if stripped in PRIVATE_WORDS or stripped.rstrip("_") in PRIVATE_WORDS:
        return True
    # The names of tests are sentences.
    return not name.startswith("test_") and not PRIVATE_PARTS.isdisjoint(stripped.split("_"))


def location(path: Path, line: int, text: str) -> str:
    """Return an entry of a failure's message."""
    return f"{path.relative_to(ROOT)}:{line}: {text}"


def report(problems: list[str], rule: str) -> None:
    """Fail with the rule and the list of problems, if there are any."""
    if problems:
        pytest.fail("\n".join([rule, *problems]), pytrace=False)


@pytest.mark.parametrize("folder", FOLDERS)
def test_names_are_no_private_words(folder):
    """Variables, parameters, attributes, functions, classes and modules have names of the field."""
    problems = [
        location(path, line, name)
        for path, tree in parse(folder)
        for line, name in sorted({(1, path.stem), *defined_names(tree)})
        if is_private_word(name)
    ]
    report(problems, "Name the thing in the field's terms (docs/glossary.md):")


@pytest.mark.parametrize("folder", FOLDERS)
def test_docstrings_open_with_a_verb_or_a_noun(folder):
    """A docstring opens with an imperative verb or a noun phrase, not with a question word or a pronoun."""
    problems = [
        location(path, line, text.partition("\n")[0])
        for path, tree in parse(folder)
        for line, text in docstrings(tree)
        if re.split(r"[^a-z]", text.lower(), maxsplit=1)[0] in FORBIDDEN_OPENERS
    ]
    report(problems, "Open the docstring with an imperative verb or a noun phrase:")


def test_names_of_tests_are_sentences():
    """A test's name has several words, and the test has a docstring."""
    problems = [
        location(path, node.lineno, node.name)
        for path, tree in parse("tests")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        if "_" not in node.name.removeprefix("test_") or not ast.get_docstring(node)
    ]
    report(problems, "Name the test by a sentence, such as test_rejects_a_second_put, and give it a docstring:")


@pytest.mark.parametrize("folder", FOLDERS)
def test_spelling_is_american(folder):
    """Names and docstrings have American spelling."""
    problems = [
        location(path, line, match[0])
        for path, tree in parse(folder)
        if path != Path(__file__)
        for line, text in [*defined_names(tree), *docstrings(tree)]
        if (match := BRITISH.search(text))
    ]
    report(problems, "Use American spelling:")


def test_javascript_has_no_private_words():
    """The scripts of the page have names of the field, too."""
    problems = []
    for path in sorted((ROOT / "static").glob("*.js")):
        # Strings and comments are removed, but not their lines.
        code = JAVASCRIPT_STRINGS.sub(lambda match: "\n" * match[0].count("\n"), path.read_text())
        for number, line in enumerate([path.stem, *code.splitlines()]):
            problems += [location(path, number, name) for name in re.findall(r"[\w$]+", line) if is_private_word(name)]
    report(problems, "Name the thing in the field's terms:")

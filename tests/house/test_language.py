"""The English of pages and docstrings is plain: no sentence has what `tests/language.toml` names, or is too long."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.language import PACKAGE, Rule, findings, read_rules, sentences, sources

RULES, LONGEST = read_rules()


def found(path: Path, text: str) -> list[str]:
    """Return what is found in a file of this text, without the path."""
    path.write_text(text, encoding="utf-8")
    return [str(finding).partition(".")[2] for finding in findings([path])]


def test_no_sentence_of_a_page_or_a_docstring_is_hard_to_read() -> None:
    assert [str(finding) for finding in findings([*sources()])] == []


def test_every_page_and_module_is_read() -> None:
    read = {*sources()}
    assert {ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "tests" / "README.md"} <= read
    assert {*(ROOT / "docs").rglob("*.md"), *PACKAGE.rglob("*.py")} <= read


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_finds_its_own_example_and_lets_the_better_words_pass(rule: Rule, tmp_path: Path) -> None:
    assert rule.advice in " ".join(found(tmp_path / "page.md", rule.finds))
    assert found(tmp_path / "page.md", rule.passes) == []


@pytest.mark.parametrize(("words", "findings"), [(LONGEST, 0), (LONGEST + 1, 1)])
def test_a_sentence_has_so_many_words_and_no_more(tmp_path: Path, words: int, findings: int) -> None:
    text = f"A short one. {' '.join(['Count', *(f'{number},' for number in range(1, words))])}. And 1 more."
    assert len(found(tmp_path / "page.md", text)) == findings


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("It works. It is the\nthe end.", "phrase is repeated"),
        ("It works. This value is\nmore unique.", "not comparable"),
        ("It works. This is a safe\nhaven.", "Redundancy"),
    ],
)
def test_proselint_reads_the_sentences_too(tmp_path: Path, text: str, advice: str) -> None:
    [finding] = found(tmp_path / "page.md", text)
    assert finding.startswith("md:1:")
    assert advice in finding


def test_words_are_repeated_within_a_sentence_alone(tmp_path: Path) -> None:
    text = "It is a hit. Hit it.\n\n| hit | hit |\n|---|---|\n| hit | hit |\n"
    assert found(tmp_path / "page.md", text) == []


def test_a_finding_names_the_line_in_which_its_sentence_begins(tmp_path: Path) -> None:
    [finding] = found(tmp_path / "page.md", "# A page\n\nThis is good. So is\nthis. The next\nis for nobody.\n")
    assert finding.startswith("md:4:")
    [finding] = found(tmp_path / "module.py", '"""A module.\n\nIt is\ngood. It is for nobody.\n"""\n')
    assert finding.startswith("py:4:")


def test_code_is_not_read(tmp_path: Path) -> None:
    assert found(tmp_path / "page.md", "The name is `nobody`.\n\n```python\nnobody = 1\n```\n") == []
    assert found(tmp_path / "module.py", '"""A name.\n\n>>> who = "nobody"\n>>> who\n\'nobody\'\n"""') == []


@pytest.mark.parametrize(
    "text",
    ["# What it costs\n", "| what | costs |\n|---|---|\n| What is told | 1 |\n", "What is a lease?\n"],
)
def test_a_label_and_a_question_may_begin_with_what(tmp_path: Path, text: str) -> None:
    assert found(tmp_path / "page.md", text) == []


def test_a_docstring_and_the_description_of_a_parameter_may_begin_with_what(tmp_path: Path) -> None:
    text = '"""What is cached.\n\nArgs:\n    name: What it is called.\n    other: Another.\n\n{}"""\n'
    assert found(tmp_path / "module.py", text.format("")) == []
    assert len(found(tmp_path / "module.py", text.format("What is late is lost.\n"))) == 1


def test_parameters_and_tables_of_a_docstring_are_no_long_sentence(tmp_path: Path) -> None:
    parameters = "".join(f"    name_{number}: one two three\n" for number in range(LONGEST))
    table = "".join(f"word{number}   three words more\n" for number in range(LONGEST))
    path = tmp_path / "module.py"
    assert found(path, f'"""It counts.\n\nArgs:\n{parameters}\n{table}"""\n') == []
    assert [sentence.text for sentence in sentences(path)][:2] == ["It counts.", "name_0: one two three"]


def test_the_command_prints_what_it_finds_and_fails(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("This is for nobody.\n", encoding="utf-8")
    command = [sys.executable, "-m", "tests.language", str(page)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith(f'{page}:1: "nobody": ')

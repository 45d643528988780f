import random
import time
from contextlib import suppress

import pytest
from yaml_kit import marked, mutant

from mrl_bench.errors import SourceError
from mrl_bench.scenario.yaml_reader import MAX_BYTES, parse, read


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "file.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        return path

    return write


def refusal(path):
    with pytest.raises(SourceError) as caught:
        read(path)
    error = caught.value
    assert str(error) == f"{path}:{error.line}:{error.column}: {error.message}"
    assert len(str(error).splitlines()) == 1
    return error


SCALARS = [
    *[("", None), ("~", None), ("null", None), ("NULL", None), ("nULL", "nULL")],
    *[("true", True), ("False", False), ("yes", "yes"), ("no", "no"), ("on", "on"), ("y", "y")],
    *[
        ("0", 0),
        ("-7", -7),
        ("+7", 7),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("0b1", "0b1"),
    ],
    *[
        ("1e3", 1000.0),
        ("3.2e6", 3.2e6),
        (".5", 0.5),
        ("5.", 5.0),
        ("-1.5E-3", -0.0015),
        ("1e", "1e"),
        (".", "."),
    ],
    *[("12:30:45", "12:30:45"), ("2001-12-14", "2001-12-14"), ("1.2.3", "1.2.3"), ("=", "="), ("inf", "inf")],
    *[("'1'", "1"), ('"true"', "true"), ("'it''s'", "it's"), ('"a\\tb"', "a\tb"), ("two words", "two words")],
    ("999999999999999999", 999999999999999999),
    ("\u0661\u0662", "\u0661\u0662"),  # digits, but not those of YAML
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_scalars_follow_yaml_1_2(file, text, value):
    data = read(file(f"a: {text}\n")).data
    assert data == {"a": value}
    assert type(data["a"]) is type(value)


def test_all_styles_of_collections_give_the_same_data(file):
    block = "a:\n  - 1\n  - b: x\n    c: [y, {z: 1}]\nd: {}\n"
    flow = "{a: [1, {b: x, c: [y, {z: 1}]}], d: {}}"
    expected = {"a": [1, {"b": "x", "c": ["y", {"z": 1}]}], "d": {}}
    assert read(file(block)).data == read(file(flow)).data == expected


@pytest.mark.parametrize("text", ["\ufeffa: 1", "a: 1\r\n", "%YAML 1.2\n---\na: 1\n...\n", "# c\n\na: 1 # d"])
def test_byte_order_marks_directives_line_ends_and_comments_change_nothing(file, text):
    assert read(file(text)).data == {"a": 1}


def test_positions_are_those_of_values_and_keys(file):
    document = read(file("a: 1\nb:\n  c: [x, yy,  z]\n  d: {e: }\n"))
    assert document.where(()) == (1, 1)
    assert document.where(("a",)) == (1, 4)
    assert document.where(("b", "c", 2)) == (3, 15)
    assert document.where(("b", "c"), key=True) == (3, 3)
    assert document.where(("b",)) == (3, 3)  # a mapping begins with its first key
    assert document.where(("b", "d", "e"), key=True) == (4, 7)


def test_the_position_of_a_missing_value_is_that_of_its_container(file):
    document = read(file("a: 1\nb:\n  c: [x, y]\n"))
    assert document.where(("b", "missing")) == (3, 3)
    assert document.where(("b", "union-name", "c", "other-name", 1)) == (3, 10)
    assert document.where(("missing",), key=True) == (1, 1)
    assert str(document.error(("b", "c"), "no good", key=True)).endswith("file.yaml:3:3: no good")


# In each text, ^^ marks the expected position of the error.
BROKEN = [
    ("", "^^", "empty"),
    ("only a comment", "^^# nothing\n", "empty"),
    ("duplicate key", "a: 1\nb: 2\n^^a: 3\n", "duplicate key 'a', first on line 1"),
    ("duplicate key, other quotes", "{a: 1, ^^'a': 2}", "duplicate key 'a', first on line 1"),
    ("anchor", "a: ^^&x 1\n", "anchors are not allowed: remove &x"),
    ("anchor on a key", "^^&x a: 1\n", "anchors are not allowed"),
    ("anchor on a mapping", "a: ^^&x\n  b: 1\n", "anchors are not allowed"),
    ("alias", "a: 1\nb: ^^*x\n", "aliases are not allowed: write out the value of *x"),
    ("alias as a key", "^^*x : 1\n", "aliases are not allowed"),
    ("merge key", "a: 1\n^^<<: {b: 1}\n", "merge keys are not allowed: write out"),
    ("tag", "a: ^^!!str 1\n", "tags are not allowed: remove !!str"),
    ("python tag", "a: ^^!!python/object/apply:os.system [ls]\n", "tags are not allowed"),
    ("tag on the whole file", "^^!foo\na: 1\n", "tags are not allowed: remove !foo"),
    ("tag on a key", "^^!!str a: 1\n", "tags are not allowed"),
    ("number as a key", "^^1: a\n", "a key must be text: put '1' in quotes"),
    ("null as a key", "{^^~: a}\n", "a key must be text: put '~' in quotes"),
    ("bool as a key", "^^true: a\n", "a key must be text: put 'true' in quotes"),
    ("list as a key", "? ^^[a]\n: 1\n", "a key must be text, not a list"),
    ("no key", "?^^\n: 1\n", "a key must be text"),
    ("deep list", "a: " + "[" * 20 + "^^" + "[" * 5000, "more than 20 levels"),
    ("deep mapping", "{a: " * 20 + "{a: ^^" + "{a: " * 3000, "more than 20 levels"),
    ("deep block", "- " * 20 + "- ^^" + "- " * 3000, "more than 20 levels"),
    ("long number", "a: ^^" + "1" * 5000 + "\n", "at most 18 digits"),
    ("long hexadecimal number", "a: ^^0x" + "f" * 5000 + "\n", "at most 18 digits"),
    ("infinite", "a: ^^-.inf\n", "must be finite and below 1.8e308, not -.inf"),
    ("not a number", "a: [1, ^^.NaN]\n", "must be finite"),
    ("too large", "a: ^^1e999\n", "must be finite"),
    ("control character", "a: 1\nb: x^^\x07y\n", "U+0007 is not allowed: text must be printable"),
    ("null character", "^^\0", "U+0000"),
    ("terminal escape", "a: ^^\x1b[31m\n", "U+001B"),
    ("control character, escaped", 'a: ^^"x\\0"\n', "U+0000"),
    ("half of a surrogate pair, escaped", 'a: ^^"\\ud800"\n', "U+D800"),
    ("escape beyond unicode", 'a: "\\U^^FFFFFFFF"\n', "out of range"),
    ("line separator", "a: x^^\u2028y\n", "U+2028"),
    ("byte order mark inside", "a: x^^\ufeffy\n", "U+FEFF"),
    ("tab as indentation", "a:\n^^\tb: 1\n", "use spaces"),
    ("tab as separator", "a:^^\t1\n", "use spaces"),
    ("two documents", "a: 1\n^^---\nb: 2\n", "a second document begins here"),
    ("text behind the end", "a: 1\n...\n^^b: 2\n", "nothing may follow"),
    ("colon in plain text", "a: b^^: c\n", "a ': ' is not allowed here"),
    ("missing space behind a colon", "a:b\nc^^: d\n", "look at the line above too"),
    ("wrong indentation", "a: 1\n  b^^: 2\n", "a ': ' is not allowed here"),
    ("item out of line", "a:\n   - 1\n  ^^- 2\n", "check indentation and quotes"),
    ("text behind quotes", "a: 'b' ^^c\n", "check indentation and quotes"),
    ("list on the line of its key", "a: ^^- 1\n", "begin the list on a new line"),
    ("list not closed", "a: [1, 2\nb^^: 3\n", "a ']' at its end (the unfinished part begins on line 1)"),
    ("list not closed at the end", "a: [1, 2\n^^", "a ']' at its end"),
    ("mapping not closed", "a: {b: 1\n^^", "'}' at its end"),
    ("list closed as a mapping", "a: [1^^}\n", "needs a ','"),
    ("brackets in braces", "a: {^^b[c]: 1}\n", "needs quotes within braces: write 'b[c]'"),
    ("quotes not closed", "a: 'b\nc: 1\n^^", "add the closing quote (the unfinished part begins on line 1)"),
    ("double quotes not closed", 'a: "b\n^^---\n', "add the closing quote"),
    ("unknown escape", 'a: "C:\\^^dir"\n', "use single quotes"),
    ("reserved character", "a: ^^@b\n", "put it in quotes"),
    ("percent sign", "a: ^^%b\n", "put it in quotes"),
    ("bracket from nowhere", "a: ^^]\n", "a value is expected here"),
    ("other version of YAML", "^^%YAML 3.0\n---\na: 1\n", "version 1.* is required"),
    ("endless version of YAML", "%YAML ^^" + "1" * 5000 + ".0\n---\na: 1\n", "out of range"),
    ("wrong block indicator", "a: |^^0\n x\n", "not valid YAML: expected indentation indicator"),
]


@pytest.mark.parametrize(("text", "allowed"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_invalid_files_are_refused_at_the_position_of_the_error(file, text, allowed):
    text, place = marked(text)
    error = refusal(file(text))
    assert (error.line, error.column) == place
    assert allowed in error.message


@pytest.mark.parametrize(
    ("data", "place"),
    [(b"\xff\xfea\0", (1, 1)), (b"a: b\n\xc3\xa9: \xc3(", (2, 4)), (b"\xef\xbb\xbfa\n  \xff", (2, 3))],
)
def test_bytes_that_are_not_utf8_are_refused_at_their_position(file, data, place):
    error = refusal(file(data))
    assert (error.line, error.column) == place
    assert "is not UTF-8 text" in error.message


def test_paths_that_are_not_regular_files_are_refused_in_one_line(tmp_path):
    assert "no such file" in refusal(tmp_path / "none.yaml").message
    assert "folder" in refusal(tmp_path).message
    assert "device" in refusal("/dev/zero").message
    assert "cannot be read" in refusal("x" * 300).message


def test_a_string_is_parsed_like_a_file():
    assert parse("[1e3, no]", "--set x").data == [1000.0, "no"]
    with pytest.raises(SourceError, match=r"^--set x:1:2: aliases are not allowed"):
        parse("[*a]", "--set x")
    with pytest.raises(SourceError, match=r"^--set x:1:3: character U\+0007"):
        parse("ab\a", "--set x")


def test_a_long_file_is_refused_without_reading_it(file):
    assert f"{MAX_BYTES:,} bytes" in refusal(file("a: 1\n" + "# padding\n" * 200_000)).message


# The inputs that PyYAML is slowest at, of the maximal length. They take about 0.6 s; the bound leaves room for a
# slow machine.
HEAVY = ["1,", "[],", '"",', "[[[[]]]],", "{a: 1},", "\n", "'x' ,\n"]


@pytest.mark.parametrize("piece", HEAVY)
def test_the_slowest_files_are_read_in_bounded_time(file, piece):
    path = file(("[" + piece * (MAX_BYTES // len(piece)))[: MAX_BYTES - 1] + "]")
    start = time.process_time()
    with suppress(SourceError):
        read(path)
    assert time.process_time() - start < 2.0


GOOD = "a: [1, 2.5, {b: null}]\nc:\n  - x: 'y'\n    z: \"w\\n\"\n  - |\n    text\nd: {e: {f: 1e3}}\n"


def test_mutated_files_are_read_or_refused(file):
    rng = random.Random(1)
    refused = []
    for _ in range(400):
        path = file(mutant(GOOD, rng))
        try:
            read(path)
        except SourceError as error:
            refused.append(str(error))
    assert 100 < len(refused) < 400  # some mutations are harmless, some are not
    assert all(len(line.splitlines()) == 1 for line in refused)

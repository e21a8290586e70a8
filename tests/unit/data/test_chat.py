"""Chat templates: what they render, which tokens count, and what is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from trainer.data.chat import SHIPPED, ChatTemplate, load_template, read_messages, write_template
from trainer.data.marks import CONTEXT, FIRST
from trainer.data.tokenizer import END_OF_TEXT, train_bpe
from trainer.errors import UserError

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What does os.path do?"},
    {"role": "assistant", "content": "It joins  paths."},
    {"role": "user", "content": "Überall?"},
    {"role": "assistant", "content": "Ja, überall."},
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe([SHIPPED["plain"], SHIPPED["chatml"], "What does os.path do? It joins the paths."] * 9, 400)


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, "given", bos_token=END_OF_TEXT, eos_token=END_OF_TEXT)


def answers(tokenizer: Tokenizer, chat: ChatTemplate) -> str:
    """The text of the tokens that count."""
    tokens, marks = chat.encode(tokenizer, TALK)
    counted = [int(token) for token, mark in zip(tokens, marks, strict=True) if not mark & CONTEXT]
    return str(tokenizer.decode(counted, skip_special_tokens=False))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chatml", "It joins  paths.<|im_end|>Ja, überall.<|im_end|>"),
        ("plain", f" It joins  paths.{END_OF_TEXT} Ja, überall.{END_OF_TEXT}"),
    ],
)
def test_answers_count_with_what_ends_them_and_nothing_else(name: str, expected: str, tokenizer: Tokenizer) -> None:
    chat = load_template(name, tokenizer, tokenizer_folder=None)
    assert answers(tokenizer, chat) == expected
    tokens, marks = chat.encode(tokenizer, TALK)
    assert tokenizer.decode(tokens.tolist(), skip_special_tokens=False) == chat.render(TALK)
    assert [place for place, mark in enumerate(marks) if mark & FIRST] == [0]
    assert chat.end_of_turn() == expected[-len(chat.end_of_turn()) :]


def test_a_single_token_that_ends_an_answer_is_known(tokenizer: Tokenizer) -> None:
    assert load_template("plain", tokenizer, tokenizer_folder=None).end_of_turn_id(tokenizer) == 0
    chat = load_template("chatml", tokenizer, tokenizer_folder=None)
    assert chat.end_of_turn_id(tokenizer) is None
    with_markers = Tokenizer.from_str(tokenizer.to_str())
    with_markers.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    assert chat.end_of_turn_id(with_markers) == with_markers.token_to_id("<|im_end|>")


def test_what_precedes_an_answer_are_the_tokens_of_its_prompt(tokenizer: Tokenizer) -> None:
    chat = load_template("plain", tokenizer, tokenizer_folder=None)
    tokens, marks = chat.encode(tokenizer, TALK[:3])
    prompt = tokenizer.encode(chat.render(TALK[:2], add_generation_prompt=True)).ids
    first = next(place for place, mark in enumerate(marks) if not mark & CONTEXT)
    assert tokens[:first].tolist() == prompt


def test_a_template_that_was_used_travels_to_workers(tokenizer: Tokenizer) -> None:
    chat = load_template("chatml", tokenizer, tokenizer_folder=None)
    assert pickle.loads(pickle.dumps(chat)).render(TALK) == chat.render(TALK)  # our own


def test_generation_blocks_are_what_is_inside(tokenizer: Tokenizer) -> None:
    source = SHIPPED["chatml"].replace("{{ '<|im_start|>' +", "{% generation %}{{ '<|im_start|>' +", 1)
    source = source.replace("'<|im_end|>\\n' }}", "'<|im_end|>\\n' }}{% endgeneration %}", 1)
    assert template(source).render(TALK) == template(SHIPPED["chatml"]).render(TALK)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("{% for m in messages %}{{ m.role }}{{ eos_token }}{% endfor %}", "drops an answer"),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", "writes nothing behind an answer"),
        ("{{ messages | length }}{% for m in messages %}{{ m.content + eos_token }}{% endfor %}", "otherwise"),
        ("{% for m in messages %}{{ m.content.__class__.__mro__ }}{% endfor %}", "fails: "),
        ("{{ raise_exception('no system messages') }}", "no system messages"),
        ("{% for m in messages %", "fails: "),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "fails: maximum recursion depth"),
        (
            SHIPPED["plain"].replace("{{ 'Answer:' }}", "{{ 'Answer: ' }}"),
            "first token reaches back",
        ),
    ],
)
def test_a_template_that_does_not_suit_is_refused_with_the_conversation(
    source: str, problem: str, tokenizer: Tokenizer
) -> None:
    with pytest.raises(UserError, match=problem) as refused:
        template(source).encode(tokenizer, TALK)
    assert "What does os.path do?" in str(refused.value)


def test_the_template_of_the_tokenizers_folder(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match="has no chat template"):
        load_template(None, tokenizer, tokenizer_folder=str(tmp_path))
    config = {"chat_template": SHIPPED["plain"], "eos_token": {"content": "</a>"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert load_template(None, tokenizer, tokenizer_folder=str(tmp_path)).render(TALK[1:3]).endswith("paths.</a>\n")
    write_template(tmp_path, load_template("chatml", tokenizer, tokenizer_folder=None))
    assert load_template(None, tokenizer, tokenizer_folder=str(tmp_path)).render(TALK[1:3]).endswith("<|im_end|>\n")
    with pytest.raises(UserError, match=r"nowhere\.jinja: no such file"):
        load_template("nowhere.jinja", tokenizer, tokenizer_folder=str(tmp_path))
    (tmp_path / "latin.jinja").write_bytes(b"a\xff")
    with pytest.raises(UserError, match=r"latin\.jinja: not UTF-8 at byte 1"):
        load_template(str(tmp_path / "latin.jinja"), tokenizer, tokenizer_folder=None)


def test_prompt_and_completion_are_a_conversation() -> None:
    assert read_messages({"prompt": " a ", "completion": "b\n"}) == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (3, "found int"),
        ({"text": "a"}, "found the keys text"),
        ({"messages": []}, "at least one"),
        ({"messages": [{"role": "user"}]}, r"messages\[0\]: expected an object"),
        ({"messages": [{"role": "robot", "content": "a"}]}, r"messages\[0\]\.role: found 'robot'"),
        ({"messages": [{"role": "user", "content": " "}]}, r"messages\[0\]\.content: found ' '"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "the assistant speaks first"),
        ({"prompt": "a", "completion": 7}, r"messages\[1\]\.content: found 7"),
    ],
)
def test_a_line_that_is_no_conversation_says_what_is_wrong(line: object, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_messages(line)


@pytest.mark.parametrize(
    "expression",
    [
        "''.__class__.__mro__[1].__subclasses__()",
        "messages.append.__globals__",
        "self.__init__.__globals__['__builtins__']",
        "cycler.__init__.__globals__.os.mkdir('x')",
        "messages.clear()",
    ],
)
def test_a_template_reaches_nothing_but_its_conversation(expression: str) -> None:
    """It comes with a model from anywhere."""
    template = ChatTemplate("{{ " + expression + " }}", "given", bos_token="", eos_token="")
    with pytest.raises(UserError, match="fails"):
        template.render([{"role": "user", "content": "x"}])

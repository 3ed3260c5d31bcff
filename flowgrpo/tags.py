"""The caption of an image -> the text that it is learned with: tags as Danbooru and kohya users keep them.

Every draw is `random()` of the generator that is handed in; its numbers stay the same from one Python to the
next, which Python does not promise for `shuffle`. Each tag takes its two draws whatever the options say, so
that a changed dropout leaves the order as it was. No torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from random import Random
from typing import Literal

from pydantic import Field, model_validator

from flowgrpo.strict import Config

_ESCAPED = re.compile(r"\\([()\[\]])")
_EYE = r"(?:[^\s_]|\(\S\)|<\S>|\|\|)"
_EMOTICON = re.compile(f"{_EYE}_{_EYE}")
"""Two eyes about a mouth that is an underscore: `^_^`, `>_<`, `o_o`, `(o)_(o)`, `<|>_<|>`, `||_||`."""
_SEPARATORS = {"comma": re.compile(r"[,\n]"), "blank": re.compile(r"\s")}


class TagOptions(Config):
    """What is done to a caption each time that its image is learned from."""

    separator: Literal["comma", "blank", "none"] = "comma"
    """What stands between tags: commas or ends of lines, or blanks as in Danbooru's own tag strings; none
    takes the caption as one sentence, word for word.
    """
    trigger: str = Field("", max_length=200)
    """Put before every caption, as it is spelled here; not one of the tags that `keep_tags` counts."""
    keep_tags: int = Field(0, ge=0, le=64)
    """Tags at the front that are neither shuffled nor left out."""
    shuffle_tags: bool = True
    """The other tags in another order each time."""
    tag_dropout: float = Field(0.0, ge=0, lt=1)
    """Chance that one of the other tags is left out."""
    caption_dropout: float = Field(0.1, ge=0, le=1)
    """Chance of the empty caption, trigger included: what guidance steers away from."""
    underscores_to_blanks: bool = True
    """`long_hair` is learned as `long hair`; emoticons such as `^_^` keep theirs."""
    replace_tags: dict[str, str] = Field(default_factory=dict)
    """Tag to what is learned in its place; capitals, underscores and escapes do not tell tags apart."""
    drop_tags: tuple[str, ...] = ()
    """Tags that are never learned, not even in place of others; told apart as in `replace_tags`."""

    @model_validator(mode="after")
    def _trigger_may_stay(self) -> TagOptions:
        if self.trigger and _name(self.trigger) in _names(self.drop_tags):
            raise ValueError(
                f"the trigger '{self.trigger}' is one of drop_tags: take it from there, or choose another"
            )
        return self


def caption_for(caption: str, options: TagOptions, rng: Random) -> str:
    r"""The text that an image with this caption is learned with, this time; it follows from `rng` alone.

    Tags are stripped, replaced, dropped and freed of repetitions, in that order, and joined by ", ". `\(` is
    learned as `(`: the backslash is the prompt syntax of web interfaces, and no text encoder should see it.
    """
    is_left_out = rng.random() < options.caption_dropout
    is_sentence = options.separator == "none"
    tags = [caption.strip()] if is_sentence else _tags(caption, options)
    num_kept = len(tags) if is_sentence else options.keep_tags
    draws = [(rng.random(), rng.random()) for _ in tags]
    others = list(range(num_kept, len(tags)))
    if options.shuffle_tags:
        others.sort(key=lambda index: draws[index][0])
    rest = [tags[index] for index in others if draws[index][1] >= options.tag_dropout]
    return "" if is_left_out else ", ".join(filter(None, [options.trigger.strip(), *tags[:num_kept], *rest]))


def _tags(caption: str, options: TagOptions) -> list[str]:
    """The caption's tags as they are learned, in their order, each once and none of them the trigger."""
    replacements = {_name(tag): new for tag, new in options.replace_tags.items()}
    unwanted = {"", _name(options.trigger)} | _names(options.drop_tags)
    tags: dict[str, str] = {}
    for tag in _SEPARATORS[options.separator].split(caption):
        spelled = _spelled(replacements.get(_name(tag), tag), blanks=options.underscores_to_blanks)
        if _name(spelled) not in unwanted:
            tags.setdefault(_name(spelled), spelled)
    return list(tags.values())


def _spelled(tag: str, *, blanks: bool) -> str:
    """The tag without escapes and idle blanks, and with blanks for underscores if so wished."""
    plain = " ".join(_ESCAPED.sub(r"\1", tag).split())
    if blanks and not _EMOTICON.fullmatch(plain):
        plain = " ".join(plain.replace("_", " ").split())
    return plain


def _name(tag: str) -> str:
    """What two spellings of one tag have in common."""
    return _spelled(tag, blanks=True).casefold()


def _names(tags: Iterable[str]) -> set[str]:
    return {_name(tag) for tag in tags}

"""Which words of the prompt the starter knows, and the words it offers."""

from __future__ import annotations

from flowgrpo.starter.vocabulary import SLOTS, parse_prompt, unknown_words
from ui.components import render


def words_html(prompt: str, *, knows: bool) -> str:
    """Renders the starter's words by slot, those of the prompt pressed, and names the unknown ones.

    Args:
        prompt: as typed.
        knows: whether the chosen base is the starter; another base knows more words than can be listed.
    """
    if not knows:
        return ""
    asked = parse_prompt(prompt)
    return render("words.html", slots=SLOTS, asked=set(asked.values()), unknown=unknown_words(prompt))

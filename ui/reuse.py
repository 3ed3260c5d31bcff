"""What a click takes over into the form: seeds, settings or the prompt of what is shown."""

from __future__ import annotations

from typing import Any

from storage.groups import GroupView, ImageView
from ui import batches, recall
from ui.canvas import Seen
from ui.forms import Refused, show_seeds
from ui.language import t
from ui.services import Services


def values(services: Services, state: Seen, act: str, target: str) -> dict[str, Any]:
    """The form's fields with what they become.

    Args:
        act: "seed" of an image, "seeds", "settings" or "prompt" of a group, or "others": all of a group or of
            one image, with other checkpoints beside its own.
        target: id of the image or the group.

    Raises:
        Refused: neither is shown, or there are no other checkpoints.
    """
    view, image = _found(services, state, target)
    if act == "seed" and image is not None:
        return {"seeds": str(image.image.seed)}
    if act == "prompt":
        return {"prompt": view.group.prompt, "prompt_set": "", "chosen": []}
    seeds = {"seeds": show_seeds(view.group.seeds), "group_size": len(view.group.seeds)}
    if act == "seeds":
        return seeds
    settings = {**batches.form_of(view), "prompt_set": "", "chosen": []}
    if act != "others":
        return settings
    if image is not None:
        seeds = {"seeds": str(image.image.seed), "group_size": 1}
    return {**settings, **seeds, "checkpoint": batches.others_than(services, view)}


def recalled(services: Services, answer: str) -> tuple[dict[str, Any], str]:
    """The form's fields with what an image says, and the sentence that names what was taken over.

    Args:
        answer: what `POST /recall` answered, as JSON.

    Raises:
        Refused: it is no such answer, or says nothing that the form has.
    """
    found = recall.of_page(answer)
    if not found.values:
        raise Refused(recall.NOTHING)
    values = {**found.values, "prompt_set": "", "chosen": []}
    if "seeds" in values:
        values["group_size"] = 1
    same = [checkpoint for name, checkpoint in services.choices() if name == found.model]
    if same:
        values["checkpoint"] = same[-1:]
    said = [t("studio.recalled", source=found.source)]
    if found.model and not same:
        said.append(t("studio.recalled_model", model=found.model[:80]))
    if found.left_out:
        said.append(t("studio.recalled_without", settings="; ".join(found.left_out[:6])))
    return values, " ".join(said)


def _found(services: Services, state: Seen, target: str) -> tuple[GroupView, ImageView | None]:
    for view in services.groups(state.groups):
        if view.group.id == target:
            return view, None
        for image in view.images:
            if image.image.id == target:
                return view, image
    raise Refused("That image is not shown any more: open its group again.")

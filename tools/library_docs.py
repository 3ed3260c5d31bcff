"""The part of docs/api.md about the library itself: how a script uses `flowgrpo` without the studio.

Read from the source, not from the imported modules, so that nothing is loaded for it.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
LIBRARY: Final = (
    "flowgrpo.policies.load_policy",
    "flowgrpo.config.LoraConfig",
    "flowgrpo.policies.base.Policy.attach_lora",
    "flowgrpo.policies.base.Policy.load_adapter",
    "flowgrpo.rollout.sample_group",
    "flowgrpo.rollout.Sampler",
    "flowgrpo.rollout.Rollout",
    "flowgrpo.rewards.stack.load_stack",
    "flowgrpo.rewards.base.ScoreBatch",
    "flowgrpo.rewards.stack.RewardStack.score",
    "flowgrpo.normalise.calibrate",
    "flowgrpo.advantages.combine",
    "flowgrpo.config.UpdateConfig",
    "flowgrpo.learner.Learner",
    "flowgrpo.update.update",
    "flowgrpo.update.UpdateMetrics",
    "flowgrpo.checkpoint.save_checkpoint",
    "flowgrpo.checkpoint.load_checkpoint",
    "flowgrpo.exchange.export",
)
"""What the page tells of, in the order in which a script meets it."""
HEAD: Final = """## Python

The engine is a library of its own: no database, no web, no studio. This draws a group with the starter,
scores it with two rewards that come with it, learns from it once, and saves:

```python
from pathlib import Path

from flowgrpo import exchange
from flowgrpo.advantages import combine
from flowgrpo.checkpoint import save_checkpoint
from flowgrpo.config import LoraConfig, UpdateConfig
from flowgrpo.learner import Learner
from flowgrpo.normalise import calibrate
from flowgrpo.policies import load_policy
from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.stack import load_stack
from flowgrpo.rollout import sample_group
from flowgrpo.starter.package import WEIGHTS
from flowgrpo.update import update

policy = load_policy(WEIGHTS / "pipeline")
policy.attach_lora(LoraConfig(rank=8, alpha=8.0))
learner = Learner(policy, UpdateConfig())
stack = load_stack(["verifier", "quality"], WEIGHTS)

prompt = "portrait, long hair, red hair, blue background"
group = sample_group(
    policy, prompt, seeds=range(8), num_steps=8, guidance_scale=1.0, width=64, height=64, window=(0, 1, 2)
)
scores = stack.score(ScoreBatch(group.images_uint8, group.prompts, [0] * 8))
rewards = {name: column.values[None] for name, column in scores.items()}  # (group, sample)
stds = calibrate(rewards)  # a fresh adapter is the base; a run measures six groups of it
advantages = combine(rewards, {"verifier": 1.0, "quality": 0.5}, stds)

*_, metrics = update(learner, [group], advantages)
print(metrics)

save_checkpoint(Path("out/000001"), learner, {"rollout": 1})
exchange.export(Path("out/mine.safetensors"), policy.lora_config, learner.ema, family=policy.family)
```

A base of your own is opened by the same function. A reward of your own needs no package here: whatever
gives a number per image can go into `rewards`. Another algorithm of `flowgrpo/choices.py` is given to the
`Learner`; NFT's groups are sampled inside `with learner.behaviour():`.
"""
Definition = ast.FunctionDef | ast.ClassDef


def library() -> Iterator[tuple[str, str, str]]:
    """(name, code block, docstring) of each of `LIBRARY`.

    Raises LookupError for a name that is not there, or has no docstring.
    """
    for name in LIBRARY:
        node = definition(name)
        said = ast.get_docstring(node)
        if not said:
            raise LookupError(f"{name} has no docstring")
        yield name, shown(node), said


def definition(name: str) -> Definition:
    """Where a dotted name is defined; raises LookupError where it is not."""
    parts, inside = name.split("."), 1
    while inside < len(parts) and (ROOT / "/".join(parts[: inside + 1])).is_dir():
        inside += 1
    file = ROOT.joinpath(*parts[:inside])
    if file.joinpath(parts[inside]).with_suffix(".py").is_file():
        file, inside = file / parts[inside], inside + 1
    path = file.with_suffix(".py") if file.with_suffix(".py").is_file() else file / "__init__.py"
    node: ast.Module | Definition = parsed(path)
    for part in parts[inside:]:
        found = [one for one in node.body if isinstance(one, Definition) and one.name == part]
        if not found:
            raise LookupError(f"there is no {part} in {path.relative_to(ROOT)}, which {name} should be")
        node = found[-1]
    if isinstance(node, ast.Module):
        raise LookupError(f"{name} is a module")
    return node


@cache
def parsed(path: Path) -> ast.Module:
    """A file's code."""
    return ast.parse(path.read_text(encoding="utf-8"))


def shown(node: Definition) -> str:
    """How it is called: a function's signature, or a class with its fields and what they mean."""
    if isinstance(node, ast.FunctionDef):
        gives = ast.unparse(node.returns) if node.returns else "None"
        return wrapped(f"{node.name}({ast.unparse(bare(node.args))}) -> {gives}")
    fields = list(fields_of(node))
    if not fields:
        init = next((one for one in node.body if getattr(one, "name", "") == "__init__"), None)
        given = ast.unparse(bare(init.args)) if isinstance(init, ast.FunctionDef) else ""
        return wrapped(f"{node.name}({given})")
    return "\n".join([f"class {node.name}:", *fields])


def wrapped(call: str) -> str:
    """A call of any length in lines that fit."""
    indent = " " * 4
    glued = call.replace("-> ", "->\0")
    lines = textwrap.wrap(
        glued, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines).replace("\0", " ")


def bare(args: ast.arguments) -> ast.arguments:
    """Arguments without the object itself."""
    own = args.args and args.args[0].arg == "self"
    return ast.arguments(**{**vars(args), "args": args.args[1:]}) if own else args


def fields_of(node: ast.ClassDef) -> Iterator[str]:
    """The public fields of a class, each with the string below it as a comment above it."""
    below = [*node.body[1:], None]
    for one, after in zip(node.body, below, strict=True):
        if isinstance(one, ast.AnnAssign) and not ast.unparse(one.target).startswith("_"):
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                yield from (f"    # {line}" for line in inspect.cleandoc(str(after.value.value)).splitlines())
            yield f"    {ast.unparse(one)}"

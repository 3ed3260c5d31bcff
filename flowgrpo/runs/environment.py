"""Which variables of the web's environment its children have: those that they need, and no secret among them.

What a process does not have it cannot write into a log, a file or a row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from storage.masking import is_secret_name

ALSO = "FLOWGRPO_PASS"
"""Names of further variables, with commas: a plug-in that needs a key of its own gets it by this one."""
HUB_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN")
_NEEDED = re.compile(
    r"""(PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|TZ|TERM|NO_COLOR|COLUMNS|TMPDIR|TMP|TEMP|SYSTEMROOT
    |VIRTUAL_ENV|DATABASE_URL|FAILPOINT|TOKENIZERS_PARALLELISM
    |SSL_CERT_FILE|SSL_CERT_DIR|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|(HTTP|HTTPS|ALL|NO)_PROXY|(http|https|all|no)_proxy
    |RANK|LOCAL_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|MASTER_ADDR|MASTER_PORT
    |(LC_|LD_|DYLD_|PYTHON|CONDA_|XDG_|MPL|COVERAGE_|SLURM_|FLOWGRPO_).*
    |(CUDA|NVIDIA_|NCCL_|GLOO_|UCX_|HIP_|HSA_|ROCR_|ROCM_).*
    |(TORCH|PYTORCH_|TRITON_|OMP_|MKL_|OPENBLAS_|KMP_|GOMP_|ACCELERATE_|FSDP_|DEEPSPEED_).*
    |(HF_|HUGGINGFACE_|TRANSFORMERS_|DIFFUSERS_|SAFETENSORS_|OPENCLIP_).*)""",
    re.VERBOSE,
)


def needed(environment: Mapping[str, str], *, fetches: bool = False) -> dict[str, str]:
    """What of an environment passes on: known names that name no secret, and those that somebody asked for.

    Args:
        fetches: whether models are fetched there, which the token of the hub is for.
    """
    asked = {name.strip() for name in environment.get(ALSO, "").split(",")}
    passed = asked | set(HUB_TOKENS if fetches else ())
    return {name: value for name, value in environment.items() if name in passed or _is_known(name)}


def _is_known(name: str) -> bool:
    return _NEEDED.fullmatch(name) is not None and not is_secret_name(name)

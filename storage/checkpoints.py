"""Tensors on storage, as safetensors: loading never executes pickled code."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from schemas.digests import DIGEST_BYTES, canonical_json, digest_json
from schemas.errors import ConfigError

_METADATA = "cyborgs"
"""The one metadata key: safetensors orders several differently in every process."""


def encode_tensors(tensors: dict[str, Tensor], metadata: dict[str, Any] | None = None) -> bytes:
    """Named tensors and a JSON value as the bytes of a safetensors file."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save_safetensors(on_cpu, {_METADATA: canonical_json(metadata or {})})


def decode_tensors(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `encode_tensors` was given; tensors on the CPU."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = json.loads(header.get("__metadata__", {}).get(_METADATA, "{}"))
    return load_safetensors(data), metadata


def content_digest(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> str:
    """Digest over tensors sorted by name (name, dtype, shape, values) and the metadata."""
    of_tensors = {name: tensor_digest(tensor) for name, tensor in tensors.items()}
    return digest_json({"tensors": of_tensors, "metadata": metadata})


def tensor_digest(tensor: Tensor) -> str:
    """BLAKE2b over dtype, shape and values in row-major order."""
    on_cpu = tensor.detach().cpu().contiguous()
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    hasher.update(f"{on_cpu.dtype}{tuple(on_cpu.shape)}".encode())
    # numpy knows no bfloat16: any dtype goes through its bytes.
    hasher.update(np.ascontiguousarray(on_cpu.reshape(-1).view(torch.uint8).numpy()).data)
    return hasher.hexdigest()


def read_start_weights(path: Path) -> dict[str, Tensor]:
    """A torchvision state dict without its classifier; see `read_state_dict`."""
    return {name: tensor for name, tensor in read_state_dict(path).items() if not name.startswith("fc.")}


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """All tensors of a .safetensors or torch file by name, without running code from it.

    Raises:
        ConfigError: the file is not a flat mapping of names to tensors; the message leaves the path to the caller.
    """
    try:
        if path.suffix == ".safetensors":
            loaded: Any = load_safetensors(path.read_bytes())
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    # weights_only refuses by UnpicklingError, which pickle derives from Exception directly.
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, EOFError) as error:
        raise ConfigError(f"cannot be read: {_first_line(error)}") from error
    except Exception as error:
        raise ConfigError(
            "holds objects besides tensors, which is never unpickled here; save weights alone: "
            "torch.save(model.state_dict(), FILE)"
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise ConfigError("expected a state dict, names to tensors")
    # Wrapped in DistributedDataParallel when it was saved.
    return {name.removeprefix("module."): tensor for name, tensor in loaded.items()}


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]

"""Checkpoint files from outside: what they hold is read, and nothing that they bring along is run.

A file of `torch.save` is a zip (or, before torch 1.6, a stream) whose pickle names the tensors'
bytes. The pickle's instructions are checked before torch's own safe reader gets the file: they may
call only what rebuilds plain tensors, and the bytes and objects that they unfold to are bounded.
"""

import io
import pickletools
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from stvsr.core.errors import CheckpointError

PICKLE_BYTES = 16 * 1024**2
"""Bytes of a pickle or of a safetensors header at most; a large network's have less than 1 MiB."""

OBJECTS = 500_000
"""Objects that a pickle may make, those of a repeated reference counted each time."""

DEPTH = 100
"""Levels of objects within each other."""

SHOWN = 100
"""Characters of a name from a file that an error shows."""

PROTOCOL = 2
"""Version of pickle that `torch.save` writes and torch's safe reader reads."""

_STREAM_PICKLES = 5
"""Pickles before the tensors' bytes in a file of torch before 1.6."""

_ALLOWED = re.compile(
    r"torch\.((cuda\.)?\w+Storage|Size|device|(b?float|u?int|complex)\d+\w*|bool)"
    r"|torch\._utils\._rebuild_(tensor_v2|parameter)"
    r"|collections\.(OrderedDict|Counter)"
    r"|(__builtin__|builtins)\.set|_codecs\.encode"
)
"""Names a pickle may hold: none of them takes more memory than the file's own bytes call for."""

_KINDS = {
    "_rebuild_sparse_tensor": "a sparse tensor; save tensor.to_dense()",
    "_rebuild_qtensor": "a quantised tensor; save tensor.dequantize()",
    "_rebuild_nested_tensor": "a nested tensor; save the tensors in it",
    "_rebuild_njt": "a nested tensor; save the tensors in it",
    "_rebuild_meta_tensor_no_storage": "a meta tensor, which has no values; save real weights",
}
"""Tensors that hold no plain values, by the function that rebuilds them, and what to do."""

_CHANGES_ITS_FIRST = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD")
"""Instructions that change an object instead of making one."""

SAVE_ALONE = "save the weights alone, where they were trained: torch.save(model.state_dict(), FILE)"


def read_checkpoint(file: Path, limit: int) -> Any:
    """The content of a checkpoint, on the CPU: of `torch.save`, old or new, or of safetensors.

    Args:
        file: the checkpoint.
        limit: bytes that it may have, on the disk and unpacked.

    Returns:
        What was saved, made of dicts, lists, numbers, text and plain tensors.

    Raises:
        CheckpointError: the file is missing, too large, damaged, or holds something else.
    """
    content = _bytes_of(file, limit)
    try:
        _refuse_other_files(content)
        if _is_safetensors(content):
            return safetensors.torch.load(content)
        if content.startswith(b"PK\x03\x04"):
            _check_pickle(_pickle_of_zip(content, limit))
        else:
            _check_stream(content)
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from None
    except Exception:  # damaged bytes make the readers fail in every way there is
        raise CheckpointError(
            f"{file}: its {len(content)} bytes are no checkpoint of plain tensors; it is "
            "damaged or of another kind: fetch it again from its authors"
        ) from None


def shown(name: str) -> str:
    """A name from a file, as a line of text may hold it."""
    text = name if name.isprintable() else ascii(name)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _bytes_of(file: Path, limit: int) -> bytes:
    try:
        size = file.stat().st_size if file.is_file() else None
        content = b"" if size is None or size > limit else file.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{file}: cannot be read ({error.strerror}); give the checkpoint's path"
        ) from None
    if size is None:
        found = "found no regular file" if file.exists() else "cannot be read (no such file)"
        raise CheckpointError(f"{file}: {found}; give the checkpoint's path")
    if size > limit:
        raise CheckpointError(
            f"{file}: found {size} bytes, expected {limit} at most for this network; {SAVE_ALONE}"
        )
    return content


def _refuse_other_files(content: bytes) -> None:
    """Name the files that are often found in place of a checkpoint."""
    if re.search(rb"<(!doctype|html|\?xml)", content[:1024].lower()):
        raise CheckpointError(
            "found a web page, not a checkpoint; the download gave a page about the file: "
            "download the file itself"
        )
    if content.startswith(b"version https://git-lfs"):
        raise CheckpointError("found a pointer of Git LFS, not the file; run `git lfs pull`")


def _is_safetensors(content: bytes) -> bool:
    """True for a safetensors file, whose header is JSON after eight bytes of its length."""
    header = int.from_bytes(content[:8], "little")
    return content[8:9] == b"{" and header <= min(PICKLE_BYTES, len(content) - 8)


def _pickle_of_zip(content: bytes, limit: int) -> bytes:
    """The pickle of a zip of `torch.save`; sizes are compared before anything is unpacked."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        sizes = {member.filename.lower(): member.file_size for member in archive.filelist}
        if any(name.endswith("/constants.pkl") for name in sizes):
            raise CheckpointError(f"found a TorchScript program; {SAVE_ALONE}")
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1 or len(sizes) != len(archive.filelist):
            raise CheckpointError(
                "found a zip that torch.save did not write; unpack it, and give the checkpoint "
                "that is in it"
            )
        _refuse_sizes(sum(sizes.values()), limit, "its members unpack to")
        _refuse_sizes(sizes[pickles[0].lower()], PICKLE_BYTES, "its names unpack to")
        damaged = archive.testzip()
        if damaged is not None:
            raise CheckpointError(
                f"{shown(damaged)}: its bytes have another checksum than the file says; it is "
                "damaged: fetch or copy it again"
            )
        return archive.read(pickles[0])


def _refuse_sizes(found: int, limit: int, what: str) -> None:
    if found > limit:
        raise CheckpointError(f"{what} {found} bytes, expected {limit} at most; {SAVE_ALONE}")


def _check_stream(content: bytes) -> None:
    """Check the pickles of a file of torch before 1.6; the tensors' bytes follow them."""
    start = 0
    for _ in range(_STREAM_PICKLES):
        start += _check_pickle(content[start : start + PICKLE_BYTES])


@dataclass
class _Object:
    """An object that a pickle's instructions would make.

    Attributes:
        count: objects in it, itself included, each as often as it is referred to.
        depth: levels of objects in it, its own included.
    """

    count: int = 1
    depth: int = 1

    def add(self, parts: list["_Object"]) -> "_Object":
        self.count += sum(part.count for part in parts)
        self.depth = max([self.depth, *(part.depth + 1 for part in parts)])
        return self


def _check_pickle(pickled: bytes) -> int:
    """Follow a pickle's instructions without carrying them out.

    Args:
        pickled: bytes that begin with a pickle.

    Returns:
        The pickle's length.

    Raises:
        CheckpointError: it names what is not allowed, or unfolds to too much.
        Exception: it is damaged.
    """
    stack: list[_Object | None] = []  # None is a mark
    known: dict[int, _Object] = {}
    made = position = 0
    for instruction, argument, at in pickletools.genops(pickled):
        _refuse_instruction(instruction.name, argument)
        _follow(instruction, argument, stack, known)
        top = (stack and stack[-1]) or _Object()
        made += top.count if "GET" in instruction.name else 1
        if made > OBJECTS or top.depth > DEPTH:
            raise CheckpointError(
                f"its pickle unfolds to more than {OBJECTS} objects or {DEPTH} levels; {SAVE_ALONE}"
            )
        position = at or 0
    return position + 1


def _refuse_instruction(name: str, argument: Any) -> None:
    if name == "PROTO" and argument != PROTOCOL:
        raise CheckpointError(
            f"found pickle protocol {argument}, expected {PROTOCOL}; save it again with "
            "torch.save's own protocol"
        )
    if name != "GLOBAL" or _ALLOWED.fullmatch(called := argument.replace(" ", ".")):
        return
    if kind := _KINDS.get(called.rpartition(".")[2]):
        raise CheckpointError(f"found {kind}")
    called = re.sub(r"^(__builtin__|builtins)\.", "", called)
    raise CheckpointError(
        f"no checkpoint of plain tensors (it calls {shown(called)}, which is not run); {SAVE_ALONE}"
    )


def _follow(
    instruction: pickletools.OpcodeInfo,
    argument: Any,
    stack: list[_Object | None],
    known: dict[int, _Object],
) -> None:
    """Apply one instruction to the stack and to the objects that later ones refer to."""
    match instruction.name:
        case "BINPUT" | "LONG_BINPUT":
            known[argument] = stack[-1] or _Object()
        case "BINGET" | "LONG_BINGET":
            stack.append(known[argument])
        case "MARK":
            stack.append(None)
        case "PROTO" | "STOP":
            pass
        case name:
            parts = _take(instruction, stack)
            whole = parts.pop(0) if name in _CHANGES_ITS_FIRST else _Object()
            stack.append(whole.add(parts))


def _take(instruction: pickletools.OpcodeInfo, stack: list[_Object | None]) -> list[_Object]:
    """Take the objects that an instruction uses off the stack, in their order."""
    parts: list[_Object] = []
    used = list(instruction.stack_before)
    if pickletools.markobject in used:
        used = used[: used.index(pickletools.markobject)]
        while (part := stack.pop()) is not None:
            parts.append(part)
    parts += [stack.pop() or _Object() for _ in used]
    return parts[::-1]

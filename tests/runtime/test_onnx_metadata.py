"""Reading metadata without the package onnx, from whole, foreign and damaged files."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparse_detr_deploy.errors import ArtefactError
from sparse_detr_deploy.limits import MOST_METADATA_BYTES
from sparse_detr_deploy.metadata import METADATA_KEY, SCHEMA_VERSION, Metadata
from sparse_detr_deploy.onnx_metadata import MOST_FIELDS, read_metadata
from tests.conftest import Export

METADATA = Metadata(name="x", architecture="r50", model={}, height=96, width=128, level_shapes=((12, 16),), rho=0.3)


def small_onnx(**properties: str) -> onnx.ModelProto:
    weight = onnx.numpy_helper.from_array(np.arange(50, dtype=np.float32), "weight")
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [50])
    node = onnx.helper.make_node("Identity", ["weight"], ["y"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], [output], [weight]))
    onnx.helper.set_model_props(model, properties)
    return model


def field(number: int, content: bytes) -> bytes:
    """One field of bytes, such as a message."""
    head = bytearray()
    for value in (number << 3 | 2, len(content)):
        while value > 0x7F:
            head.append(value & 0x7F | 0x80)
            value >>= 7
        head.append(value)
    return bytes(head) + content


KEY = METADATA_KEY.encode()
ENTRY = field(14, field(1, KEY) + field(2, METADATA.to_json().encode()))
GRAPH = field(7, b"")
TWICE = GRAPH + ENTRY + ENTRY
CONTENT = small_onnx(other="thing", **{METADATA_KEY: METADATA.to_json()}).SerializeToString()


def test_an_exported_file(export_tiny: Export) -> None:
    result = export_tiny()
    metadata = read_metadata(result.path)
    assert metadata == result.metadata
    stored = {entry.key: entry.value for entry in onnx.load(result.path).metadata_props}
    assert stored[METADATA_KEY] == metadata.to_json()


def test_a_whole_file(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(CONTENT)
    assert read_metadata(str(tmp_path / "x.onnx")) == METADATA


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, len(CONTENT) - 1))
def test_truncations_are_refused(tmp_path: Path, length: int) -> None:
    (tmp_path / "x.onnx").write_bytes(CONTENT[:length])
    with pytest.raises(ArtefactError, match="x.onnx"):
        read_metadata(tmp_path / "x.onnx")


def test_truncations_of_an_exported_file(export_tiny: Export, tmp_path: Path) -> None:
    """Of one that is cut after its metadata the metadata may be read; running it is refused (see test_runners)."""
    content = export_tiny().path.read_bytes()
    generator = random.Random(0)
    lengths = [generator.randrange(1, len(content)) for _ in range(20)] + [len(content) - cut for cut in range(1, 40)]
    for length in lengths:
        with (tmp_path / "x.onnx").open("wb") as file:
            file.write(memoryview(content)[:length])
        try:
            assert read_metadata(tmp_path / "x.onnx") == export_tiny().metadata
        except ArtefactError as error:
            assert "x.onnx" in str(error)  # noqa: PT017 (it may also be read)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(0, 255)), min_size=1, max_size=30))
def test_damaged_files_give_no_other_error(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    content = bytearray(CONTENT)
    for position, value in changes:
        content[position] = value
    (tmp_path / "x.onnx").write_bytes(content)
    try:
        read_metadata(tmp_path / "x.onnx")
    except ArtefactError as error:
        assert "x.onnx" in str(error)  # noqa: PT017 (it may also be read)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=300))
def test_any_other_content_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(ArtefactError):
        read_metadata(tmp_path / "x.onnx")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"text, not a model", "truncated or not an ONNX file"),
        (b"\x08\x07", "holds no graph"),
        (small_onnx().SerializeToString(), "was not made by sparse-detr-deploy"),
        (small_onnx(names="{}").SerializeToString(), "was not made by sparse-detr-deploy"),
        (small_onnx(**{METADATA_KEY: "{"}).SerializeToString(), "not JSON"),
        (TWICE, "has the metadata 'sparse_detr_deploy' 2 times"),
        (field(14, field(1, KEY) + field(2, b"\xff{}")) + GRAPH, "not UTF-8"),
        (GRAPH + field(14, field(1, KEY) + b"\x10\x05"), "truncated or not an ONNX file"),
        (GRAPH + b"\x70\x05", "truncated or not an ONNX file"),
        (GRAPH + b"\x3b\x3c", "truncated or not an ONNX file"),
        (GRAPH + b"\x08" + b"\xff" * 9 + b"\x7f", "truncated or not an ONNX file"),
        (GRAPH + b"\x3a" + b"\xff" * 9 + b"\x01", "truncated or not an ONNX file"),
        (GRAPH + field(14, field(1, KEY) + field(2, b" " * (MOST_METADATA_BYTES + 1))), "larger than 16,777,216"),
        (GRAPH + b"\x3a\x00" * (MOST_FIELDS + 1), "more than 10,000 fields"),
        (GRAPH + field(14, b"\x1a\x00" * 1000), "more than 16 fields"),
        (small_onnx(**{METADATA_KEY: f'{{"schema_version": {SCHEMA_VERSION + 1}}}'}).SerializeToString(), "upgrade"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(ArtefactError, match=f"x.onnx.*{message}"):
        read_metadata(tmp_path / "x.onnx")


@pytest.mark.parametrize(
    "other",
    [
        b"\x08\x07",  # a number: the version
        b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # the largest one
        b"\x0d" + b"\x0a" * 4,  # four bytes, which look like fields
        b"\x09" + b"\x0a" * 8,  # eight bytes
        b"\x0a\x00",  # an empty text
        field(25, b"\x72" * 300),  # a long one, of a number beyond 15
        field(14, field(1, b"other") + field(2, b"thing")),
        field(14, field(1, KEY + b"2") + field(2, b"thing")),
        field(14, field(1, KEY[:-1]) + field(2, b"thing")),
        field(14, field(1, KEY[:-1] + b"X") + field(2, b"thing")),
        field(14, b""),
    ],
)
def test_what_lies_around_the_metadata_is_stepped_over(other: bytes, tmp_path: Path) -> None:
    for index, content in enumerate((other + GRAPH + ENTRY, GRAPH + other + ENTRY, GRAPH + ENTRY + other)):
        (tmp_path / f"{index}.onnx").write_bytes(content)
        assert read_metadata(tmp_path / f"{index}.onnx") == METADATA


def test_of_two_keys_or_values_the_last_counts(tmp_path: Path) -> None:
    """As protobuf has it; and a part that is unknown does no harm."""
    entry = field(1, b"x") + field(2, b"y") + b"\x18\x05" + field(2, METADATA.to_json().encode()) + field(1, KEY)
    (tmp_path / "x.onnx").write_bytes(GRAPH + field(14, entry))
    assert read_metadata(tmp_path / "x.onnx") == METADATA


def test_as_many_fields_as_are_read(tmp_path: Path) -> None:
    """10,000 in a file, 16 in an entry; one more is refused above."""
    (tmp_path / "x.onnx").write_bytes(GRAPH + ENTRY + b"\x08\x01" * (10_000 - 2))
    assert read_metadata(tmp_path / "x.onnx") == METADATA
    (tmp_path / "x.onnx").write_bytes(GRAPH + ENTRY + b"\x08\x01" * (10_000 - 1))
    with pytest.raises(ArtefactError, match="a message of more than 10,000 fields"):
        read_metadata(tmp_path / "x.onnx")
    entry = field(1, KEY) + field(2, METADATA.to_json().encode())
    for more, read in ((14, True), (15, False)):
        (tmp_path / "x.onnx").write_bytes(GRAPH + field(14, entry + b"\x18\x01" * more))
        if read:
            assert read_metadata(tmp_path / "x.onnx") == METADATA
        else:
            with pytest.raises(ArtefactError, match="a message of more than 16 fields"):
                read_metadata(tmp_path / "x.onnx")


def test_metadata_without_a_graph_or_of_another_wire_type(tmp_path: Path) -> None:
    for content, message in ((ENTRY, "holds no graph"), (GRAPH + ENTRY + b"\x70\x01", "truncated or not an ONNX file")):
        (tmp_path / "x.onnx").write_bytes(content)
        with pytest.raises(ArtefactError, match=message):
            read_metadata(tmp_path / "x.onnx")


def test_paths_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="does not exist"):
        read_metadata(tmp_path / "x.onnx")
    with pytest.raises(ArtefactError, match="is a folder"):
        read_metadata(tmp_path)
    with pytest.raises(ArtefactError, match="cannot be read .*null"):
        read_metadata("null\0.onnx")
    with pytest.raises(ArtefactError, match=r"x\.onnx cannot be read \(File name too long\)"):
        read_metadata(tmp_path / f"{'x' * 300}.onnx")


def test_a_file_of_many_empty_fields(tmp_path: Path) -> None:
    """20 MB that hold ten million fields: read to the end, they take gigabytes of memory and half a minute.

    The process may have 512 MB of address space beyond what the interpreter took.
    """
    (tmp_path / "x.onnx").write_bytes(GRAPH + ENTRY + b"\x3a\x00" * 10_000_000)
    code = f"""
import resource
from pathlib import Path
from sparse_detr_deploy.errors import ArtefactError
from sparse_detr_deploy.onnx_metadata import read_metadata
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (512 << 20),) * 2)
try:
    read_metadata({str(tmp_path / "x.onnx")!r})
except ArtefactError as error:
    print(error)
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("the system has no /proc")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert "more than 10,000 fields" in done.stdout, done.stderr[-500:]


def test_metadata_among_many_functions(tmp_path: Path) -> None:
    """As large models of others have them."""
    (tmp_path / "x.onnx").write_bytes(GRAPH + field(25, b"") * 5000 + ENTRY + field(14, field(1, b"other")) * 1000)
    assert read_metadata(tmp_path / "x.onnx") == METADATA


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
def test_fifos_and_devices(tmp_path: Path) -> None:
    """In a process of its own, which a FIFO would stop for ever."""
    os.mkfifo(tmp_path / "x.onnx")
    for path, kind in ((tmp_path / "x.onnx", "FIFO"), (Path("/dev/zero"), "device")):
        code = f"""
from sparse_detr_deploy.errors import ArtefactError
from sparse_detr_deploy.onnx_metadata import read_metadata
try:
    read_metadata({str(path)!r})
except ArtefactError as error:
    print(error)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
        assert f"{path} cannot be read (it is a {kind}, not a regular file)" in done.stdout

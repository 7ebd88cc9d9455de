"""Tables of hostile checkpoints, by what is wrong with each."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from typing import Any

import torch

from sparse_detr_deploy.modeling import sparse_config
from tests.export.crafted_checkpoints import (
    KEY,
    Write,
    called,
    device,
    entry,
    fifo,
    legacy,
    local_bomb,
    mapping,
    model,
    names,
    number,
    patched,
    pickled,
    safetensors,
    saved,
    several,
    storage,
    tensor,
    text,
    with_holes,
    zipped,
)

CONFIG = sparse_config(
    "thin-resnet18", enc_layers=2, dec_layers=2, num_queries=20, num_classes=5, hidden_dim=32, dim_feedforward=32
)
NORM = "transformer.encoder.layers.1.norm1.weight"
HUGE = 10**11
ENDLESS = torch.zeros(1).expand(HUGE)
LAUGHS = b"(]q\x01" + (b"](" + b"h\x01" * 10 + b"eq\x01") * 40 + b"t"  # 10^40 values
ITSELF = b"}q\x01" + text("a") + b"h\x01" + b"s"
NEST = b"]" * 5000 + b"a" * 4999
MANY = 30_000


def namespace(values: bytes) -> bytes:
    return names("argparse.Namespace") + b")\x81" + values + b"b"


# of files that the reader refuses before it looks at an architecture
CRAFTED: dict[str, Write] = {
    "expanded": zipped(model(tensor((4, HUGE), (0, 0)))),
    "expanded by one dimension": zipped(model(tensor((4, 64), (0, 1)))),
    "overlapping windows": zipped(model(tensor((4, 64), (1, 1)))),
    "beyond its storage": zipped(model(tensor((HUGE,), (1,)))),
    "an offset beyond its storage": zipped(model(tensor(offset=1))),
    "a negative offset": zipped(model(tensor(offset=-1))),
    "negative strides": zipped(model(tensor(stride=(-64, -1), offset=255))),
    "negative sizes": zipped(model(tensor((-4, -64)))),
    "sizes of 2000 bits": zipped(model(tensor((2**2000, 64)))),
    "a product that overflows": zipped(model(tensor((2**32, 2**32), (2**32, 1)))),
    "more strides than sizes": zipped(model(tensor((4, 64), (64, 1, 1)))),
    "a thousand dimensions": zipped(model(tensor((1,) * 1000, (1,) * 1000))),
    "sizes that are no numbers": zipped(
        model(called("torch._utils._rebuild_tensor_v2", storage(256), number(0), text("4"), text("1"), b"\x89", b"}"))
    ),
    "a storage larger than its record": zipped(model(tensor((HUGE,), (1,), elements=HUGE))),
    "a storage that is missing": zipped(model(tensor()), {}),
    "a negative storage": zipped(model(tensor(elements=-1))),
    "a storage of another dtype": zipped(model(tensor(kind="torch.DoubleStorage"))),
    "complex": zipped(model(tensor(kind="torch.ComplexFloatStorage"))),
    "a quantised storage": zipped(model(tensor(kind="torch.QInt8Storage"))),
    "negated when read": zipped(model(tensor(more=mapping({"neg": b"\x88"})))),
    "conjugated when read": zipped(model(tensor(more=mapping({"conj": b"\x88"})))),
    "float8": saved(lambda: {"model": {KEY: torch.ones(4, 64).to(torch.float8_e4m3fn)}}),
    "uint16": saved(lambda: {"model": {KEY: torch.ones(4, 64).to(torch.uint16)}}),
    "sparse": saved(lambda: {"model": {KEY: torch.eye(4, 64).to_sparse()}}),
    "sparse rows": saved(lambda: {"model": {KEY: torch.eye(4, 64).to_sparse_csr()}}),
    "a huge sparse tensor": saved(lambda: {"model": {KEY: torch.sparse_coo_tensor(size=(HUGE, 4))}}),
    "quantised": saved(lambda: {"model": {KEY: torch.quantize_per_tensor(torch.ones(4, 64), 0.1, 0, torch.qint8)}}),
    "meta": saved(lambda: {"model": {KEY: torch.empty(HUGE, device="meta")}}),
    "nested": saved(lambda: {"model": {KEY: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])}}),
    "a quantised tensor that would be allocated": zipped(
        model(
            called(
                "torch._utils._rebuild_qtensor",
                storage(256, "torch.QInt8Storage"),
                number(0),
                several(number(HUGE)),
                several(number(1)),
                several(names("torch.per_tensor_affine"), b"G" + bytes(8), number(0)),
                b"\x89",
                b"}",
            )
        )
    ),
    "a subclass of a size": zipped(
        model(called("torch._utils._rebuild_wrapper_subclass", names("torch.Tensor"), several(number(HUGE))))
    ),
    "FloatTensor(10**11)": zipped(model(called("torch.FloatTensor", number(HUGE)))),
    "bytearray(10**11) elsewhere": zipped(pickled(mapping({"x": called("builtins.bytearray", number(HUGE))}))),
    "UntypedStorage(10**11)": zipped(model(called("torch.storage.UntypedStorage", number(HUGE)))),
    "a parameter of no tensor": zipped(model(called("torch._utils._rebuild_parameter", number(3), b"\x88", b"}"))),
    "a tensor of a type of a type": zipped(
        model(
            called(
                "torch._tensor._rebuild_from_type_v2",
                names("torch._tensor._rebuild_from_type_v2"),
                names("torch.Tensor"),
                b")",
                b"}",
            )
        )
    ),
    "a name of a megabyte": zipped(model(tensor(), key="x" * 2**20)),
    "a name with escapes": zipped(model(tensor(elements=1), key="\x1b[31m\n\r" * 9)),
    "a name of half a character": zipped(model(tensor(elements=1), key="\ud800")),
    "a name that is a number": zipped(pickled(b"}" + number(7) + tensor() + b"s")),
    "a name that is a tuple": zipped(pickled(b"}" + several(number(7)) + tensor() + b"s")),
    "names that collide": zipped(
        pickled(b"}(" + b"".join(number(index * (2**61 - 1)) + b"N" for index in range(1, MANY)) + b"u")
    ),
    "too many tensors": zipped(
        pickled(b"N" + tensor() + b"q\x01" + b"}(" + b"".join(text(f"a{n}") + b"h\x01" for n in range(MANY)) + b"u")
    ),
    "arguments that hold themselves": zipped(model(tensor(), ITSELF)),
    "a namespace that holds itself": zipped(model(tensor(), namespace(ITSELF))),
    "arguments of 10^40 values": zipped(model(tensor(), mapping({"lr": LAUGHS}))),
    "arguments 5000 deep": zipped(model(tensor(), mapping({"rho": NEST}))),
    "namespaces 5000 deep": zipped(
        model(
            tensor(),
            b"".join(names("argparse.Namespace") + b")\x81}" + text("a") for _ in range(5000)) + b"}" + b"sb" * 5000,
        )
    ),
    "an argument of 2000 bits": zipped(model(tensor(), namespace(mapping({"rho": number(2**2000)})))),
    "an argument named by a number": zipped(model(tensor(), namespace(b"}" + number(7) + b"Ns"))),
    "a namespace that is a list": zipped(model(tensor(elements=1), namespace(b"]"))),
    "values 200,000 deep": zipped(pickled(b"]" * 200_000 + b"a" * 199_999)),
    "a list of 10^40 values": zipped(pickled(LAUGHS)),
    "a pickle without end": zipped(b"\x80\x02" + b"N" * 100_000),
    "a pickle of too many instructions": zipped(b"\x80\x02" + b"N" * 2_100_000 + b"."),
    "a pickle that is too large": zipped(pickled(mapping({"x": text("x" * 17_000_000)}))),
    "a long string that is not there": zipped(b"\x80\x02X\xff\xff\xff\xff."),
    "a list that grows by itself": zipped(pickled(b"]q\x01h\x01b")),
    "nothing on the stack": zipped(b"\x80\x02R."),
    "a mark that is missing": zipped(b"\x80\x02u."),
    "a memo that is missing": zipped(b"\x80\x02jabcd."),
    "an odd number of items": zipped(b"\x80\x02}(Nu."),
    "a newer protocol": saved({"model": {KEY: torch.ones(4, 64)}}, pickle_protocol=4),
    "a persistent number": zipped(pickled(number(7) + b"Q")),
    "an archive that is a bomb": zipped(model(tensor(elements=2**24)), {"0": bytes(2**26)}, zipfile.ZIP_DEFLATED),
    "records that overlap": local_bomb,
    "records of one name": patched(zipped(model(tensor()), {"0": bytes(1024), "1": b""}), b"x/data/1", b"x/data/0"),
    "an encrypted record": patched(
        zipped(model(tensor())), b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"
    ),
    "a directory elsewhere": patched(zipped(model(tensor())), b"PK\x01\x02", b"PK\x01\x03"),
    "a record header elsewhere": patched(zipped(model(tensor())), b"PK\x03\x04\x14", b"PK\x03\x05\x14", -1),
    "an unknown byte order": zipped(model(tensor()), records={"x/byteorder": b"middle"}),
    "a long byte order": zipped(model(tensor()), records={"x/byteorder": bytes(9)}),
    "no pickle": zipped(b"", records={"x/data.pkl": b""}),
    "a terabyte of holes": with_holes,
    "legacy: endless storage": legacy(
        model(tensor((HUGE,), (1,), elements=HUGE)), storages=(HUGE).to_bytes(8, "little")
    ),
    "legacy: another size": legacy(model(tensor(elements=2**20))),
    "legacy: a negative size": legacy(model(tensor()), storages=(-1).to_bytes(8, "little", signed=True)),
    "legacy: unknown storage": legacy(model(tensor()), ("7",)),
    "legacy: a storage twice": legacy(model(tensor()), ("0", "0")),
    "legacy: no storages": legacy(model(tensor()), ()),
    "legacy: keys that are numbers": legacy(model(tensor()), [1]),
    "legacy: keys that are no list": legacy(model(tensor()), 7),
    "legacy: a part beyond the whole": legacy(model(tensor(view=several(text("v"), number(200), number(100))))),
    "legacy: another version": patched(legacy(model(tensor())), b"M\xe9\x03", b"M\xea\x03", 1),
    "legacy: a complex storage": legacy(model(tensor(kind="torch.ComplexDoubleStorage"))),
    "legacy: expanded": saved({"model": {KEY: ENDLESS}}, _use_new_zipfile_serialization=False),
    "a FIFO": fifo,
    "a device": device,
}
SAFETENSORS: dict[str, Write] = {
    "a header of 2**63 bytes": safetensors({}, length=2**63),
    "a header beyond the file": safetensors({KEY: entry()}, length=5000),
    "a header of 20 MB": safetensors(b" " * 20_000_000),
    "a deep header": safetensors(b'{"a":' * 100_000),
    "a header that is a list": safetensors([]),
    "a header that is no UTF-8": safetensors(b'{"\xff": 1}'),
    "an unknown type": safetensors({KEY: entry("F8_E4M3", offsets=(0, 256))}),
    "a type that is a list": safetensors({KEY: {**entry(), "dtype": ["F32"]}}),
    "no type": safetensors({KEY: {"shape": [4, 64], "data_offsets": [0, 1024]}}),
    "a tensor that is null": safetensors({KEY: None}),
    "a shape that overflows": safetensors({KEY: entry(shape=[2**32, 2**32])}),
    "a shape of 10**400": safetensors(
        b'{"a": {"dtype": "F32", "shape": [1' + b"0" * 400 + b'], "data_offsets": [0, 4]}}'
    ),
    "a shape of fractions": safetensors({KEY: entry(shape=[4.0, 64.0])}),
    "a negative shape": safetensors({KEY: entry(shape=[-4, -64])}),
    "a shape of 1000 dimensions": safetensors({KEY: entry(shape=[1] * 1000, offsets=(0, 4))}),
    "a shape that fits no bytes": safetensors({KEY: entry(shape=[4, 65])}),
    "offsets beyond the file": safetensors({KEY: entry(shape=[HUGE], offsets=[0, 4 * HUGE])}),
    "offsets backwards": safetensors({KEY: entry(offsets=[1024, 0])}),
    "three offsets": safetensors({KEY: entry(offsets=[0, 1024, 2048])}),
    "tensors that overlap": safetensors({KEY: entry(), "b": entry()}),
    "a gap": safetensors({KEY: entry(offsets=[4, 1028])}, bytes(1028)),
    "bytes that are no tensor's": safetensors({KEY: entry()}, bytes(1028)),
    "metadata that is a list": safetensors({"__metadata__": [1], KEY: entry()}),
    "metadata of numbers": safetensors({"__metadata__": {"config": 3}, KEY: entry()}),
    "a deep config": safetensors({"__metadata__": {"config": '{"a":' * 5000}, KEY: entry()}),
    "a config of 10**400": safetensors({"__metadata__": {"config": '{"rho": 1' + "0" * 400 + "}"}, KEY: entry()}),
    "a name of a kilobyte": safetensors({"x" * 1024: entry()}),
    "a name with escapes": safetensors({"\x1b[31m": entry("F99")}),
    "too many tensors": safetensors(
        {f"a{index}": entry(shape=[1], offsets=[4 * index, 4 * index + 4]) for index in range(MANY)}, bytes(4 * MANY)
    ),
    "too many names of one tensor": safetensors(
        {"__metadata__": {f"a{index}": KEY for index in range(MANY)}, KEY: entry()}
    ),
    "a FIFO": fifo,
    "a device": device,
}

Change = Callable[[dict[str, Any]], object]


def put(value: object, key: str = NORM) -> Change:
    return lambda content: content["model"].update({key: value})


def argue(**values: object) -> Change:
    return lambda content: [setattr(content["args"], key, value) for key, value in values.items()]


# of files with the whole network and one thing wrong
CHANGED: dict[str, Change] = {
    "endless under a known name": put(ENDLESS),
    "endless under an unknown name": put(ENDLESS, "extra"),
    "endless half under an unknown name": put(torch.zeros(1).half().expand(HUGE), "extra"),
    "endless counters": put(torch.tensor(0).expand(HUGE), "x.num_batches_tracked"),
    "expanded to the right shape": put(torch.ones(1).expand(32)),
    "no elements": put(torch.ones(0)),
    "no elements and endless": put(torch.ones(0).expand(HUGE, 0)),
    "a layer of a high number": put(torch.ones(5, 32), "class_embed.999999999.weight"),
    "a layer of a higher number": put(torch.ones(5, 32), f"transformer.decoder.layers.{'9' * 400}.x"),
    "heads without end": lambda content: content["model"].update(
        {f"class_embed.0.x{index}": content["model"]["class_embed.0.bias"] for index in range(9000)}
    ),
    "a head of another dtype": put(torch.ones(5, 32, dtype=torch.float64), "class_embed.1.weight"),
    "a head of another shape": put(torch.ones(6, 32), "class_embed.1.weight"),
    "overflow in float32": put(torch.full((32,), 1e300, dtype=torch.float64)),
    "10**400": argue(rho=10**400),
    "-10**400": argue(num_queries=-(10**400)),
    "a float that is infinite": argue(num_queries=float("inf")),
    "a float that is no number": argue(enc_layers=float("nan")),
    "a tensor as an argument": argue(num_queries=torch.ones(2)),
    "an endless tensor as an argument": argue(rho=ENDLESS),
    "a list as an argument": argue(nheads=[8] * 5000),
    "a long text as an argument": argue(rho="x" * 10**6),
    "a text with escapes as an argument": argue(rho="\x1b[31m" * 9),
    "a long position_embedding": argue(position_embedding=["\x1b" * 10**6]),
    "networks of petabytes": argue(enc_layers=64, dec_layers=64, dim_feedforward=65536),
    "networks of terabytes": lambda content: content["model"].update(
        {
            "transformer.level_embed": torch.zeros(1).expand(4, 4096),
            "class_embed.0.weight": torch.zeros(1).expand(9, 4096),
        }
    ),
    "a network that is one number": lambda content: content.update(
        model={key: torch.zeros(1).expand(value.shape) for key, value in content["model"].items()}
    ),
}
SIDECARS: dict[str, Write] = {
    "sidecar: a FIFO": fifo,
    "sidecar: a device": device,
    "sidecar: 20 MB": lambda path: path.write_bytes(b" " * 20_000_000 + b"{}"),
    "sidecar: deep": lambda path: path.write_text('{"a":' * 900 + "1" + "}" * 900),
    "sidecar: deeper": lambda path: path.write_text('{"a":' * 100_000),
    "sidecar: 10**400": lambda path: path.write_text('{"rho": 1' + "0" * 400 + "}"),
    "sidecar: 10**5000": lambda path: path.write_text('{"rho": 1' + "0" * 5000 + "}"),
    "sidecar: infinite": lambda path: path.write_text('{"num_queries": 1e999}'),
    "sidecar: a million values": lambda path: path.write_text(json.dumps({"lr": [0] * 10**6})),
    "sidecar: no UTF-8": lambda path: path.write_bytes(b'{"rho": "\xff"}'),
    "sidecar: escapes": lambda path: path.write_text(json.dumps({"rho": "\x1b[31m" * 50})),
}

# SPDX-License-Identifier: MIT
"""Network files: a description of a network to bytes, and back.

`docs/network-file.md` describes the format byte by byte; `pybridge_network_reader.f90` reads it.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pybridge.errors import ChecksumError, FileFormatError

MAGIC = b"\x89PBN\r\n\x1a\n"
VERSION = 1
ORDER_MARK = 0x04030201
HEADER = struct.Struct("<8sIIqI")
HIGHEST_RANK = 15

Shape = tuple[int, ...]


@dataclass
class Weight:
    """One trainable array of a layer, in single or double precision."""

    name: str
    values: NDArray[Any]


@dataclass
class LayerRecord:
    """A layer: what the core builds it from."""

    kind: str
    name: str
    class_name: str
    integers: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    constants: list[NDArray[np.float64]] = field(default_factory=list)
    weights: list[Weight] = field(default_factory=list)


@dataclass
class Node:
    """An input (no layer), or the application of a layer to tensors.

    A tensor is a pair of a node's and an output's number, both from zero.
    """

    layer: int | None
    shapes: list[Shape]
    sources: list[tuple[int, int]] = field(default_factory=list)
    name: str = ""


@dataclass
class Reference:
    """Results of the original network for one sample, as flat vectors."""

    x: NDArray[np.float64]
    dx: NDArray[np.float64]
    dp: NDArray[np.float64]
    y_ad: NDArray[np.float64]
    y: NDArray[np.float64]
    dy: NDArray[np.float64]
    x_ad: NDArray[np.float64]
    p_ad: NDArray[np.float64]

    def arrays(self) -> list[NDArray[np.float64]]:
        """Return the vectors in their order in the file."""
        return [self.x, self.dx, self.dp, self.y_ad, self.y, self.dy, self.x_ad, self.p_ad]


@dataclass
class NetworkFile:
    """All that a network file holds."""

    precision: int
    metadata: dict[str, Any]
    layers: list[LayerRecord]
    nodes: list[Node]
    outputs: list[tuple[int, int]]
    references: list[Reference] = field(default_factory=list)

    @property
    def n_parameters(self) -> int:
        """Number of trainable values."""
        return sum(weight.values.size for layer in self.layers for weight in layer.weights)

    @property
    def n_inputs(self) -> int:
        """Values of one sample's input."""
        return sum(math.prod(node.shapes[0]) for node in self.nodes if node.layer is None)

    @property
    def n_outputs(self) -> int:
        """Values of one sample's output."""
        return sum(math.prod(self.nodes[node].shapes[output]) for node, output in self.outputs)

    def parameters(self) -> NDArray[np.float64]:
        """Return all weights as one vector."""
        arrays = [weight.values.ravel() for layer in self.layers for weight in layer.weights]
        return np.concatenate([np.zeros(0), *arrays]).astype(np.float64)


def encode(network: NetworkFile) -> bytes:
    """Return the bytes of a network file."""
    out = bytearray()
    real = {4: "<f4", 8: "<f8"}[network.precision]

    def integer(*values: int) -> None:
        out.extend(struct.pack(f"<{len(values)}i", *values))

    def text(value: str) -> None:
        raw = value.encode()
        integer(len(raw))
        out.extend(raw)

    def reals(values: NDArray[Any], dtype: str = "<f8") -> None:
        out.extend(np.ascontiguousarray(values, dtype=dtype).tobytes())

    def shape(dims: Shape) -> None:
        integer(len(dims), *dims)

    def tensors(references: list[tuple[int, int]]) -> None:
        integer(len(references))
        for node, output in references:
            integer(node + 1, output + 1)

    integer(network.precision)
    text(json.dumps(network.metadata))
    integer(network.n_parameters, len(network.layers))
    for layer in network.layers:
        text(layer.kind)
        text(layer.name)
        text(layer.class_name)
        integer(len(layer.integers), *layer.integers)
        integer(len(layer.texts))
        for value in layer.texts:
            text(value)
        integer(len(layer.constants))
        for array in layer.constants:
            integer(array.size)
            reals(array)
        integer(len(layer.weights))
        for weight in layer.weights:
            text(weight.name)
            shape(weight.values.shape)
            reals(weight.values, real)
    integer(len(network.nodes))
    for node in network.nodes:
        if node.layer is None:
            integer(0)
            text(node.name)
            shape(node.shapes[0])
        else:
            integer(node.layer + 1)
            tensors(node.sources)
            integer(len(node.shapes))
            for dims in node.shapes:
                shape(dims)
    tensors(network.outputs)
    integer(len(network.references))
    for reference in network.references:
        integer(reference.dp.size)
        for array in reference.arrays():
            reals(array)
    length = HEADER.size + len(out)
    return HEADER.pack(MAGIC, VERSION, ORDER_MARK, length, zlib.crc32(out)) + bytes(out)


class _Reader:
    """Takes values from the front of some bytes, and never beyond their end."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.position = HEADER.size

    def take(self, size: int) -> bytes:
        if size < 0 or size > len(self.raw) - self.position:
            raise FileFormatError("the network file is cut off, or a count in it is wrong")
        part = self.raw[self.position : self.position + size]
        self.position += size
        return part

    def integer(self) -> int:
        return int(struct.unpack("<i", self.take(4))[0])

    def count(self, element: int) -> int:
        n = self.integer()
        if n < 0 or n * element > len(self.raw) - self.position:
            raise FileFormatError("the network file is cut off, or a count in it is wrong")
        return n

    def text(self) -> str:
        try:
            return self.take(self.count(1)).decode()
        except UnicodeDecodeError:
            raise FileFormatError("a text in the network file is not UTF-8") from None

    def reals(self, n: int, dtype: str = "<f8") -> NDArray[Any]:
        kind = np.dtype(dtype)
        return np.frombuffer(self.take(n * kind.itemsize), kind).astype(kind.newbyteorder("="))

    def shape(self) -> Shape:
        rank = self.count(4)
        if rank > HIGHEST_RANK:
            raise FileFormatError("a shape in the network file has too many dimensions")
        dims = tuple(self.integer() for _ in range(rank))
        if any(n < 1 for n in dims) or math.prod(dims) > 2**31 - 1:
            raise FileFormatError("a shape in the network file is out of range")
        return dims

    def tensors(self) -> list[tuple[int, int]]:
        pairs = [(self.integer() - 1, self.integer() - 1) for _ in range(self.count(8))]
        if any(node < 0 or output < 0 for node, output in pairs):
            raise FileFormatError("a tensor in the network file is out of range")
        return pairs


def decode(raw: bytes) -> NetworkFile:
    """Return what the bytes of a network file describe.

    Whether the layers fit each other is checked by the core, which reads the same bytes.

    Raises
    ------
    FileFormatError
        The bytes are no network file, or are cut off.
    ChecksumError
        The bytes are damaged.
    """
    if len(raw) < HEADER.size:
        raise FileFormatError("this is too short for a network file")
    magic, version, mark, length, checksum = HEADER.unpack_from(raw)
    if magic != MAGIC:
        raise FileFormatError("this is no network file, or was transferred as text")
    if mark != ORDER_MARK:
        raise FileFormatError("the network file's byte order is wrong")
    if version != VERSION:
        raise FileFormatError(f"this version reads network files of version 1, not {version}")
    if length != len(raw):
        raise FileFormatError("the network file is cut off, or longer than it says")
    if checksum != zlib.crc32(raw[HEADER.size :]):
        raise ChecksumError("the network file's checksum does not match: it is damaged")
    reader = _Reader(raw)
    precision = reader.integer()
    if precision not in (4, 8):
        raise FileFormatError(f"the network file's precision is {precision}, not 4 or 8 bytes")
    try:
        metadata = json.loads(reader.text())
    except (json.JSONDecodeError, RecursionError):
        raise FileFormatError("the network file's description is no JSON") from None
    if not isinstance(metadata, dict):
        raise FileFormatError("the network file's description is no JSON object")
    n_parameters = reader.count(precision)
    layers = [_take_layer(reader, precision) for _ in range(reader.count(28))]
    nodes = [_take_node(reader, len(layers)) for _ in range(reader.count(12))]
    outputs = reader.tensors()
    for number, output in outputs + [pair for node in nodes for pair in node.sources]:
        if number >= len(nodes) or output >= len(nodes[number].shapes):
            raise FileFormatError("a tensor in the network file is out of range")
    network = NetworkFile(precision, metadata, layers, nodes, outputs)
    if network.n_parameters != n_parameters:
        raise FileFormatError("the network file's layers and parameters differ in number")
    for _ in range(reader.count(4)):
        n_p = reader.integer()
        if n_p not in (0, n_parameters):
            raise FileFormatError("a reference result does not fit the parameters")
        n_x, n_y = network.n_inputs, network.n_outputs
        sizes = (n_x, n_x, n_p, n_y, n_y, n_y, n_x, n_p)
        network.references.append(Reference(*(reader.reals(n) for n in sizes)))
    if reader.position != len(raw):
        raise FileFormatError("there are bytes left over at the end of the network file")
    return network


def _take_layer(reader: _Reader, precision: int) -> LayerRecord:
    layer = LayerRecord(reader.text(), reader.text(), reader.text())
    layer.integers = [reader.integer() for _ in range(reader.count(4))]
    layer.texts = [reader.text() for _ in range(reader.count(4))]
    layer.constants = [reader.reals(reader.count(8)) for _ in range(reader.count(4))]
    for _ in range(reader.count(8)):
        name, dims = reader.text(), reader.shape()
        values = reader.reals(math.prod(dims), "<f4" if precision == 4 else "<f8")
        layer.weights.append(Weight(name, values.reshape(dims)))
    return layer


def _take_node(reader: _Reader, n_layers: int) -> Node:
    number = reader.integer()
    if number == 0:
        return Node(None, name=reader.text(), shapes=[reader.shape()])
    if not 0 < number <= n_layers:
        raise FileFormatError("a node in the network file refers to a layer that is not there")
    sources = reader.tensors()
    return Node(number - 1, [reader.shape() for _ in range(reader.count(4))], sources)

"""Reader for the Kaldi binary files in a Montreal Forced Aligner acoustic model, with numpy only.

It reads the parts that a GMM aligner needs: the transition model with its HMM topology, the Gaussian mixtures
and the phonetic decision tree.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


class KaldiError(ValueError):
    """The bytes are not the expected Kaldi object."""


class KaldiReader:
    """Reads Kaldi's binary format sequentially.

    Args:
        data: Content of a binary Kaldi file, which begins with the marker "\\0B".

    Raises:
        KaldiError: The data has no such marker.
    """

    def __init__(self, data: bytes) -> None:
        if data[:2] != b"\0B":
            raise KaldiError("not a binary Kaldi file")
        self.data, self.position = data, 2

    def read_token(self) -> str:
        """Read ASCII text up to the next space."""
        try:
            end = self.data.index(b" ", self.position)
            text = self.data[self.position : end].decode("ascii")
        except ValueError as error:
            raise KaldiError(f"expected a token at byte {self.position}") from error
        self.position = end + 1
        return text

    def expect_token(self, *tokens: str) -> str:
        """Read a token and return it; raises KaldiError if it is not one of `tokens`."""
        token = self.read_token()
        if token not in tokens:
            raise KaldiError(f"expected {' or '.join(tokens)}, got {token!r}")
        return token

    def read_number(self, kind: str = "i") -> float:
        """Read one number; `kind` is its `struct` format character."""
        self.position += 1  # the size byte
        (value,) = struct.unpack_from("<" + kind, self.data, self.position)
        self.position += struct.calcsize(kind)
        return value

    def read_int(self) -> int:
        """Read one 32-bit integer."""
        return int(self.read_number("i"))

    def read_int_vector(self) -> np.ndarray:
        """Read a vector of 32-bit integers."""
        self.position += 1
        (count,) = struct.unpack_from("<i", self.data, self.position)
        self.position += 4
        return self._array("<i4", count)

    def read_vector(self) -> np.ndarray:
        """Read a vector of floats, in single or double precision as stored."""
        kind = "<f4" if self.expect_token("FV", "DV") == "FV" else "<f8"
        return self._array(kind, self.read_int())

    def read_matrix(self) -> np.ndarray:
        """Read a matrix of floats, in single or double precision as stored."""
        kind = "<f4" if self.expect_token("FM", "DM") == "FM" else "<f8"
        rows, columns = self.read_int(), self.read_int()
        return self._array(kind, rows * columns).reshape(rows, columns)

    def _array(self, kind: str, count: int) -> np.ndarray:
        size = np.dtype(kind).itemsize * count
        if count < 0 or self.position + size > len(self.data):
            raise KaldiError("the file is truncated")
        values = np.frombuffer(self.data, kind, count, self.position)
        self.position += size
        return values


@dataclass(frozen=True)
class DiagonalGmm:
    """A mixture of G Gaussians with diagonal covariance over D features.

    Attributes:
        constants: (G,) log weights plus the log normalization constants.
        means_invvars: (G, D) means divided by variances.
        inv_vars: (G, D) reciprocals of the variances.
    """

    constants: np.ndarray
    means_invvars: np.ndarray
    inv_vars: np.ndarray

    def check(self, width: int) -> None:
        """Raise KaldiError unless this is a mixture over features of so many dimensions."""
        count = len(self.constants)
        shapes_fit = self.means_invvars.shape == self.inv_vars.shape == (count, width)
        values_fit = count > 0 and bool(np.isfinite(self.means_invvars).all() and np.isfinite(self.inv_vars).all())
        if not shapes_fit or not values_fit or np.isnan(self.constants).any() or not np.isfinite(self.constants).any():
            raise KaldiError(f"a mixture is damaged, or is none over {width} features")

    def log_likelihood(self, features: np.ndarray) -> np.ndarray:
        """Return the log likelihoods (T,) of features (T, D)."""
        components = self.constants + features @ self.means_invvars.T - 0.5 * (features**2) @ self.inv_vars.T
        top = components.max(axis=1)
        return top + np.log(np.exp(components - top[:, None]).sum(axis=1))


@dataclass(frozen=True)
class AcousticModel:
    """A GMM-HMM. A pdf is the index of a mixture; a pdf class numbers the pdfs of one phone.

    Attributes:
        topology: For each phone id, the pdf classes of its emitting states.
        transitions: For each (phone id, state, pdf), the (next state, log probability) pairs.
        mixtures: The Gaussian mixture of each pdf.
    """

    topology: Mapping[int, list[int]]
    transitions: Mapping[tuple[int, int, int], list[tuple[int, float]]]
    mixtures: list[DiagonalGmm]


def read_acoustic_model(data: bytes) -> AcousticModel:
    """Read the content of a `final.mdl` or `final.alimdl` file.

    Damaged data raises KaldiError, another ValueError, LookupError or struct.error.
    """
    reader = KaldiReader(data)
    reader.expect_token("<TransitionModel>")
    reader.expect_token("<Topology>")
    phones = reader.read_int_vector()
    entry_of_phone = reader.read_int_vector()
    count = reader.read_int()
    two_pdfs = count == -1  # newer topologies, in which self-loops can have their own pdf
    if two_pdfs:
        count = reader.read_int()
    entries: list[list[tuple[int, list[int]]]] = []
    for _ in range(count):
        states = []
        for _ in range(reader.read_int()):
            pdf_class = reader.read_int()
            if two_pdfs:
                reader.read_int()
            nexts = []
            for _ in range(reader.read_int()):
                nexts.append(reader.read_int())
                reader.read_number("f")
            states.append((pdf_class, nexts))
        entries.append(states)
    reader.expect_token("</Topology>")
    width = 3 if reader.expect_token("<Triples>", "<Tuples>") == "<Triples>" else 4
    tuples = [tuple(reader.read_int() for _ in range(width)) for _ in range(reader.read_int())]
    reader.expect_token("</Triples>", "</Tuples>")
    reader.expect_token("<LogProbs>")
    log_probs = reader.read_vector()
    reader.expect_token("</LogProbs>")
    reader.expect_token("</TransitionModel>")
    transitions: dict[tuple[int, int, int], list[tuple[int, float]]] = {}
    transition_id = 1  # transition ids start at one
    for phone, state, pdf, *_ in tuples:
        nexts = entries[entry_of_phone[phone]][state][1]
        transitions[phone, state, pdf] = [(n, float(log_probs[transition_id + k])) for k, n in enumerate(nexts)]
        transition_id += len(nexts)
    reader.expect_token("<DIMENSION>")
    reader.read_int()
    reader.expect_token("<NUMPDFS>")
    mixtures = [_read_mixture(reader) for _ in range(reader.read_int())]
    # the last state of an entry is the final state, which emits nothing
    topology = {int(p): [c for c, _ in entries[entry_of_phone[p]][:-1]] for p in phones}
    return AcousticModel(topology, transitions, mixtures)


def _read_mixture(reader: KaldiReader) -> DiagonalGmm:
    reader.expect_token("<DiagGMM>")
    if reader.expect_token("<GCONSTS>", "<WEIGHTS>") == "<GCONSTS>":
        reader.read_vector()
        reader.expect_token("<WEIGHTS>")
    weights = reader.read_vector()
    reader.expect_token("<MEANS_INVVARS>")
    means_invvars = reader.read_matrix()
    reader.expect_token("<INV_VARS>")
    inv_vars = reader.read_matrix()
    reader.expect_token("</DiagGMM>")
    dimension = inv_vars.shape[1]
    if len(weights) != len(inv_vars) or means_invvars.shape != inv_vars.shape or not (inv_vars > 0).all():
        raise KaldiError("a mixture is damaged")
    with np.errstate(divide="ignore"):  # of weights that are zero
        constants = np.log(weights) - 0.5 * (
            dimension * np.log(2 * np.pi) - np.log(inv_vars).sum(1) + (means_invvars**2 / inv_vars).sum(1)
        )
    return DiagonalGmm(constants, means_invvars, inv_vars)


class DecisionTree:
    """Phonetic decision tree, which maps a phone in context and a pdf class to a pdf.

    Args:
        data: Content of a Kaldi `tree` file.
    """

    def __init__(self, data: bytes) -> None:
        reader = KaldiReader(data)
        reader.expect_token("ContextDependency")
        self.width, self.center = reader.read_int(), reader.read_int()
        if (self.width, self.center) not in ((1, 0), (3, 1)):
            raise KaldiError(f"its tree is for {self.width} phones around number {self.center}; pass another model")
        reader.expect_token("ToPdf")
        self._root = self._event_map(reader)
        self._pdf_cache: dict[tuple[int, ...], int] = {}

    def _event_map(self, reader: KaldiReader) -> object:
        """Read one node: None, a pdf, ("table", key, children) or ("split", key, set for yes, (yes, no))."""
        kind = reader.expect_token("NULL", "CE", "TE", "SE")
        if kind == "NULL":
            return None
        if kind == "CE":
            return reader.read_int()
        key = reader.read_int()
        if kind == "TE":
            size = int(reader.read_number("I"))
            reader.expect_token("(")
            table = [self._event_map(reader) for _ in range(size)]
            reader.expect_token(")")
            return ("table", key, table)
        yes = frozenset(reader.read_int_vector().tolist())
        reader.expect_token("{")
        branches = (self._event_map(reader), self._event_map(reader))
        reader.expect_token("}")
        return ("split", key, yes, branches)

    def check(self, count: int) -> None:
        """Raise KaldiError where a node asks for what no context has, or a leaf is none of `count` pdfs."""
        left = [self._root]
        while left:
            node = left.pop()
            if isinstance(node, int) and not 0 <= node < count:
                raise KaldiError(f"the tree refers to mixture {node} of {count}")
            if isinstance(node, tuple):
                if not -1 <= node[1] < self.width:
                    raise KaldiError(f"the tree asks for phone {node[1]} of {self.width}")
                left += node[2] if node[0] == "table" else node[3]

    def pdf_id(self, context: tuple[int, ...], pdf_class: int) -> int:
        """Return the pdf of a phone; `context` are the phone ids around and including it, 0 beyond the ends."""
        query = (*context, pdf_class)
        if query not in self._pdf_cache:
            event = dict(enumerate(context)) | {-1: pdf_class}
            node: object = self._root
            while not isinstance(node, int):
                if not isinstance(node, tuple):
                    raise KaldiError(f"the tree has no leaf for phone {context}")
                if node[0] == "table":
                    row = node[2]
                    node = row[event[node[1]]] if event[node[1]] < len(row) else None
                else:
                    node = node[3][0 if event[node[1]] in node[2] else 1]
            self._pdf_cache[query] = node
        return self._pdf_cache[query]

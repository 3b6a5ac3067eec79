"""Viterbi search in numpy for the best path of a GMM-HMM through a word graph.

The time is linear in the length of the clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from kmtalk.speech.alignment_pipeline import AlignmentError
from kmtalk.speech.kaldi import KaldiError
from kmtalk.speech.mfa_model import MfaModel

ACOUSTIC_SCALE = 0.1
SELF_LOOP_SCALE = 0.1  # both are Kaldi's defaults for alignment
BEAM_WIDTH = 60.0  # log probability below the best state at which states are pruned; MFA's retry beam is 40


@dataclass(frozen=True)
class Edge:
    """One phone of one pronunciation.

    Attributes:
        start: Node at which the edge begins.
        end: Node at which it ends.
        phone: Label of the phone.
        word: Index of the word, or None for silence.
        log_probability: Log probability of the edge.
        text_order: Sort key that increases along the text.
    """

    start: int
    end: int
    phone: str
    word: int | None
    log_probability: float
    text_order: tuple[int, int]


@dataclass
class PhoneGraph:
    """Graph of phones with optional silence before, between and after the words.

    Attributes:
        edges: Phones between nodes.
        skip_arcs: For each node, the (node, log probability) pairs that are reached without a phone.
        final: Node at which the utterance ends.
    """

    edges: list[Edge] = field(default_factory=list)
    skip_arcs: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    final: int = 0

    def successors(self, node: int) -> list[tuple[Edge | None, float]]:
        """Return the edges that can follow a node, with log probabilities; None if the utterance can end there."""
        out: list[tuple[Edge | None, float]] = [(e, e.log_probability) for e in self._from.get(node, [])]
        for target, cost in self.skip_arcs.get(node, []):
            out += [(e, cost + rest) for e, rest in self.successors(target)]
        if node == self.final:
            out.append((None, 0.0))
        return out

    def index_edges(self) -> None:
        """Index the edges by their first node. Call this before `successors`."""
        self._from: dict[int, list[Edge]] = {}
        for edge in self.edges:
            self._from.setdefault(edge.start, []).append(edge)


def build_word_graph(model: MfaModel, words: Sequence[tuple[str, list[list[str]]]]) -> PhoneGraph:
    """Build the graph of a sequence of words.

    Args:
        model: Acoustic model, for its silence phone and silence probabilities.
        words: Words in spoken order, each with its pronunciations as lists of phones.

    Returns:
        The graph, with optional silence before, between and after the words. Node 0 is the start.
    """
    count = len(words)
    before, inside = list(range(count + 1)), list(range(count + 1, 2 * count + 2))
    next_node = 2 * count + 2
    graph = PhoneGraph(final=inside[-1])
    for k in range(count + 1):
        p = model.initial_silence_probability if k == 0 else model.silence_probability
        graph.edges.append(Edge(before[k], inside[k], model.silence_phone, None, float(np.log(max(p, 1e-5))), (k, 0)))
        graph.skip_arcs[before[k]] = [(inside[k], float(np.log(max(1 - p, 1e-5))))]
        if k == count:
            break
        for phones in words[k][1]:
            at = inside[k]
            for i, phone in enumerate(phones):
                to = before[k + 1]
                if i < len(phones) - 1:
                    to, next_node = next_node, next_node + 1
                graph.edges.append(Edge(at, to, phone, k, 0.0, (k, i + 1)))
                at = to
    graph.index_edges()
    return graph


@dataclass(frozen=True)
class ViterbiPath:
    """The best path.

    Attributes:
        phones: (label, first frame, last frame + 1, word index or None for silence) of each phone.
        phone_mismatches: Measure of a wrong text for each phone, from 0 (good) to 1.5: one if it has the minimum
            duration (one frame per state), and a half if its log likelihood is far below that of the best mixture.
    """

    phones: list[tuple[str, int, int, int | None]]
    phone_mismatches: list[float]

    @property
    def mismatch(self) -> float:
        """Mean of `phone_mismatches` over the spoken phones."""
        spoken = [m for m, phone in zip(self.phone_mismatches, self.phones, strict=True) if phone[3] is not None]
        return float(np.mean(spoken)) if spoken else np.inf


@dataclass
class _HmmStates:
    """HMM states of all phones in context, and the arcs between them."""

    phone: list[int] = field(default_factory=list)  # context index of each state
    pdf: list[int] = field(default_factory=list)  # pdf of each state
    arcs: list[tuple[int, int, float]] = field(default_factory=list)  # (source, target, log probability)
    first: dict[int, int] = field(default_factory=dict)  # first state of each context
    exits: dict[int, list[tuple[int, float]]] = field(default_factory=dict)  # (state, log probability) per context


Context = tuple[int, Edge, Edge | None]
"""A phone in context: left phone id, edge of the phone, edge of the next phone (None at the end)."""


def find_best_path(
    model: MfaModel, graph: PhoneGraph, features: np.ndarray, beam_width: float = BEAM_WIDTH
) -> ViterbiPath | None:
    """Find the best path through a graph.

    Args:
        model: Acoustic model.
        graph: Graph of the transcript's phones.
        features: (T, D) features of the clip.
        beam_width: Log probability below the best state at which states are pruned.

    Returns:
        The path, or None if no path through the graph has T frames.
    """
    contexts, links, starts = _phones_in_context(model, graph)
    states = _build_hmm(model, contexts)
    for i, j, cost in links:
        states.arcs += [(h, states.first[j], w + cost) for h, w in states.exits[i]]
    used, column = np.unique(states.pdf, return_inverse=True)
    emission = ACOUSTIC_SCALE * np.stack([model.acoustic.mixtures[p].log_likelihood(features) for p in used], axis=1)
    ends = [(h, w) for i, (_, _, right) in enumerate(contexts) if right is None for h, w in states.exits[i]]
    path = _viterbi(states, emission, column, [(states.first[i], cost) for i, cost in starts], ends, beam_width)
    if path is None:
        return None
    phones: list[tuple[str, int, int, int | None]] = []
    previous = -1
    for t, state in enumerate(path):
        context = states.phone[state]
        repeated = context == previous and state == states.first[context] and path[t - 1] != state
        if context != previous or repeated:
            edge = contexts[context][1]
            phones.append((edge.phone, t, t + 1, edge.word))
        else:
            label, first, _, word = phones[-1]
            phones[-1] = (label, first, t + 1, word)
        previous = context
    return ViterbiPath(phones, _mismatches(model, features, emission[np.arange(len(path)), column[path]], phones))


def _mismatches(
    model: MfaModel,
    features: np.ndarray,
    path_scores: np.ndarray,
    phones: list[tuple[str, int, int, int | None]],
) -> list[float]:
    """Return `ViterbiPath.phone_mismatches` from the scaled log likelihoods (T,) along the path."""
    best = np.full(len(features), -np.inf)
    for mixture in model.acoustic.mixtures:
        np.maximum(best, mixture.log_likelihood(features), out=best)
    difference = path_scores - ACOUSTIC_SCALE * best
    return [
        float(last - first <= 3) + 0.5 * float(difference[first:last].mean() < -2.0) for _, first, last, _ in phones
    ]


def _phones_in_context(
    model: MfaModel, graph: PhoneGraph
) -> tuple[list[Context], list[tuple[int, int, float]], list[tuple[int, float]]]:
    """Return phones in context, links (from, to, log probability) between them, and possible first ones."""
    index: dict[tuple[int, int, int], int] = {}
    contexts: list[Context] = []
    pending: list[int] = []

    def context_index(left: int, edge: Edge, right: Edge | None) -> int:
        key = (left, id(edge), id(right))
        if key not in index:
            index[key] = len(contexts)
            contexts.append((left, edge, right))
            pending.append(index[key])
        return index[key]

    after = {node: graph.successors(node) for node in {e.end for e in graph.edges} | {0}}
    starts = []
    for edge, cost in after[0]:
        if edge is not None:
            starts += [(context_index(0, edge, right), cost) for right, _ in after[edge.end]]
    links: list[tuple[int, int, float]] = []
    while pending:
        current = pending.pop()
        _, edge, right = contexts[current]
        if right is None:
            continue
        cost = next(c for e, c in after[edge.end] if e is right)
        left = model.phone_id[edge.phone] if model.tree.width == 3 else 0
        links += [(current, context_index(left, right, following), cost) for following, _ in after[right.end]]
    # sort by position in the text, so that the states active at a time are contiguous
    order = sorted(range(len(contexts)), key=lambda i: contexts[i][1].text_order)
    rank = {old: new for new, old in enumerate(order)}
    links = [(rank[i], rank[j], cost) for i, j, cost in links]
    return [contexts[i] for i in order], links, [(rank[i], cost) for i, cost in starts]


def _build_hmm(model: MfaModel, contexts: list[Context]) -> _HmmStates:
    """Create the HMM states of all contexts and the arcs inside each; arcs between contexts are added later."""
    states = _HmmStates()
    for number, (left, edge, right) in enumerate(contexts):
        phone = model.phone_id[edge.phone]
        context = (phone,) if model.tree.width == 1 else (left, phone, model.phone_id[right.phone] if right else 0)
        classes = model.acoustic.topology[phone]
        base, size = len(states.phone), len(classes)
        states.first[number], states.exits[number] = base, []
        for state, pdf_class in enumerate(classes):
            try:
                pdf = model.tree.pdf_id(context, pdf_class)
                nexts = model.acoustic.transitions[phone, state, pdf]
            except (KeyError, KaldiError):
                raise AlignmentError(f"the acoustic model is damaged: it has no states for {edge.phone}") from None
            states.phone.append(number)
            states.pdf.append(pdf)
            stay = next((lp for to, lp in nexts if to == state), -99.0)
            leave = float(np.log(max(1 - np.exp(stay), 1e-10)))
            for to, lp in nexts:
                if to == state:
                    states.arcs.append((base + state, base + state, SELF_LOOP_SCALE * lp))
                    continue
                cost = lp - leave + SELF_LOOP_SCALE * leave
                if to == size:
                    states.exits[number].append((base + state, cost))
                else:
                    states.arcs.append((base + state, base + to, cost))
    return states


def _viterbi(
    states: _HmmStates,
    emission: np.ndarray,
    column: np.ndarray,
    starts: list[tuple[int, float]],
    ends: list[tuple[int, float]],
    beam_width: float,
) -> np.ndarray | None:
    """Return the states (T,) of the best path, or None.

    At each frame only the range of states around those within `beam_width` of the best is evaluated.
    """
    frames, count = len(emission), len(states.pdf)
    arcs = sorted(states.arcs, key=lambda a: a[1])
    source = np.array([a[0] for a in arcs])
    target = np.array([a[1] for a in arcs])
    weight = np.array([a[2] for a in arcs])
    first_arc = np.searchsorted(target, np.arange(count + 1))
    farthest = np.arange(count)
    np.maximum.at(farthest, source, target)
    farthest = np.maximum.accumulate(farthest)
    scores = np.full(count, -np.inf)
    for state, cost in starts:
        scores[state] = max(scores[state], cost + emission[0, column[state]])
    backpointers: list[tuple[int, np.ndarray]] = [(0, np.zeros(0, np.int32))]
    for t in range(1, frames):
        active = np.flatnonzero(scores > scores.max() - beam_width)
        low, high = int(active[0]), int(farthest[active[-1]]) + 1
        begin, end = first_arc[low], first_arc[high]
        src, dst = source[begin:end], target[begin:end]
        value = scores[src] + weight[begin:end]
        entered, start = np.unique(dst, return_index=True)
        best = np.maximum.reduceat(value, start)
        group = np.repeat(np.arange(len(entered)), np.diff(np.append(start, len(value))))
        hits = np.flatnonzero(value == best[group])
        chosen = np.zeros(len(entered), np.int64)
        chosen[group[hits][::-1]] = hits[::-1]  # the first among equals
        scores[:] = -np.inf
        scores[entered] = best + emission[t, column[entered]]
        previous = np.zeros(high - low, np.int32)
        previous[entered - low] = src[chosen]
        backpointers.append((low, previous))
    total, last = max(((scores[h] + w, h) for h, w in ends), default=(-np.inf, -1))
    if not np.isfinite(total):
        return None
    path = np.empty(frames, np.int64)
    path[-1] = last
    for t in range(frames - 1, 0, -1):
        low, previous = backpointers[t]
        path[t - 1] = previous[path[t] - low]
    return path

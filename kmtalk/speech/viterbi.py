"""The best path through a word graph under a GMM-HMM: Viterbi in numpy, linear in the clip's length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from kmtalk.speech.mfa_aligner import MfaModel

ACOUSTIC_SCALE = 0.1
SELF_LOOP_SCALE = 0.1  # Kaldi's defaults for alignment
BEAM_WIDTH = 60.0  # states this far below the best are given up; MFA's own retry beam is 40


@dataclass(frozen=True)
class Edge:
    """One phone of one pronunciation; ``word`` is None for silence, ``order`` rises along the text."""

    start: int
    end: int
    phone: str
    word: int | None
    log_probability: float
    order: tuple[int, int]


@dataclass
class PhoneGraph:
    """Phones between nodes; before, between and after words silence may be passed through or not."""

    edges: list[Edge] = field(default_factory=list)
    skip_arcs: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    final: int = 0

    def successors(self, node: int) -> list[tuple[Edge | None, float]]:
        """Edges that can follow a node, None where the utterance may end, with log probabilities."""
        out: list[tuple[Edge | None, float]] = [(e, e.log_probability) for e in self._from.get(node, [])]
        for beyond, cost in self.skip_arcs.get(node, []):
            out += [(e, cost + rest) for e, rest in self.successors(beyond)]
        if node == self.final:
            out.append((None, 0.0))
        return out

    def index_edges(self) -> None:
        self._from: dict[int, list[Edge]] = {}
        for edge in self.edges:
            self._from.setdefault(edge.start, []).append(edge)


def build_word_graph(model: MfaModel, words: Sequence[tuple[str, list[list[str]]]]) -> PhoneGraph:
    """A line of words, each with its pronunciations, and optional silence around each."""
    count = len(words)
    before, inside = list(range(count + 1)), list(range(count + 1, 2 * count + 2))
    spare = 2 * count + 2
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
                    to, spare = spare, spare + 1
                graph.edges.append(Edge(at, to, phone, k, 0.0, (k, i + 1)))
                at = to
    graph.index_edges()
    return graph


@dataclass(frozen=True)
class ViterbiPath:
    """``phones`` are (label, first frame, last frame + 1, word index or None).

    ``misfit`` tells a wrong text: the share of spoken phones squeezed to their shortest (one frame a
    state), plus half the share whose likelihood lies far below the best mixture of all.
    """

    phones: list[tuple[str, int, int, int | None]]
    misfit: float


@dataclass
class _HmmStates:
    """HMM states of all phones in context, and the arcs between them."""

    phone: list[int] = field(default_factory=list)  # context index
    pdf: list[int] = field(default_factory=list)
    arcs: list[tuple[int, int, float]] = field(default_factory=list)
    first: dict[int, int] = field(default_factory=dict)
    exits: dict[int, list[tuple[int, float]]] = field(default_factory=dict)


Context = tuple[int, Edge, Edge | None]  # left phone id, this phone, next phone


def find_best_path(model: MfaModel, graph: PhoneGraph, features: np.ndarray) -> ViterbiPath | None:
    """Viterbi over (T, D) features; None where no path has the clip's length."""
    contexts, links, starts = _phones_in_context(model, graph)
    states = _build_hmm(model, contexts)
    for i, j, cost in links:
        states.arcs += [(h, states.first[j], w + cost) for h, w in states.exits[i]]
    used, column = np.unique(states.pdf, return_inverse=True)
    emission = ACOUSTIC_SCALE * np.stack([model.acoustic.mixtures[p].log_likelihood(features) for p in used], axis=1)
    ends = [(h, w) for i, (_, _, right) in enumerate(contexts) if right is None for h, w in states.exits[i]]
    track = _viterbi(states, emission, column, [(states.first[i], cost) for i, cost in starts], ends)
    if track is None:
        return None
    phones: list[tuple[str, int, int, int | None]] = []
    previous = -1
    for t, state in enumerate(track):
        context = states.phone[state]
        again = context == previous and state == states.first[context] and track[t - 1] != state
        if context != previous or again:
            edge = contexts[context][1]
            phones.append((edge.phone, t, t + 1, edge.word))
        else:
            label, first, _, word = phones[-1]
            phones[-1] = (label, first, t + 1, word)
        previous = context
    return ViterbiPath(phones, _misfit(model, features, emission[np.arange(len(track)), column[track]], phones))


def _misfit(
    model: MfaModel,
    features: np.ndarray,
    path: np.ndarray,
    phones: list[tuple[str, int, int, int | None]],
) -> float:
    best = np.full(len(features), -np.inf)
    for mixture in model.acoustic.mixtures:
        np.maximum(best, mixture.log_likelihood(features), out=best)
    below = path - ACOUSTIC_SCALE * best
    spoken = [(first, last) for _, first, last, word in phones if word is not None]
    if not spoken:
        return np.inf
    squeezed = np.mean([last - first <= 3 for first, last in spoken])
    far = np.mean([below[first:last].mean() < -2.0 for first, last in spoken])
    return float(squeezed + 0.5 * far)


def _phones_in_context(
    model: MfaModel, graph: PhoneGraph
) -> tuple[list[Context], list[tuple[int, int, float]], list[tuple[int, float]]]:
    """Phones with their neighbours, the links between them, and those that may begin."""
    index: dict[tuple[int, int, int], int] = {}
    contexts: list[Context] = []
    todo: list[int] = []

    def place(left: int, edge: Edge, right: Edge | None) -> int:
        key = (left, id(edge), id(right))
        if key not in index:
            index[key] = len(contexts)
            contexts.append((left, edge, right))
            todo.append(index[key])
        return index[key]

    after = {node: graph.successors(node) for node in {e.end for e in graph.edges} | {0}}
    starts = []
    for edge, cost in after[0]:
        if edge is not None:
            starts += [(place(0, edge, right), cost) for right, _ in after[edge.end]]
    links: list[tuple[int, int, float]] = []
    while todo:
        here = todo.pop()
        _, edge, right = contexts[here]
        if right is None:
            continue
        cost = next(c for e, c in after[edge.end] if e is right)
        left = model.phone_id[edge.phone] if model.tree.width == 3 else 0
        links += [(here, place(left, right, beyond), cost) for beyond, _ in after[right.end]]
    # in the order of the text, so that what is alive at any time lies together
    order = sorted(range(len(contexts)), key=lambda i: contexts[i][1].order)
    rank = {old: new for new, old in enumerate(order)}
    links = [(rank[i], rank[j], cost) for i, j, cost in links]
    return [contexts[i] for i in order], links, [(rank[i], cost) for i, cost in starts]


def _build_hmm(model: MfaModel, contexts: list[Context]) -> _HmmStates:
    states = _HmmStates()
    for number, (left, edge, right) in enumerate(contexts):
        phone = model.phone_id[edge.phone]
        context = (phone,) if model.tree.width == 1 else (left, phone, model.phone_id[right.phone] if right else 0)
        classes = model.acoustic.topology[phone]
        base, size = len(states.phone), len(classes)
        states.first[number], states.exits[number] = base, []
        for state, pdf_class in enumerate(classes):
            pdf = model.tree.pdf_id(context, pdf_class)
            states.phone.append(number)
            states.pdf.append(pdf)
            nexts = model.acoustic.transitions[phone, state, pdf]
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
) -> np.ndarray | None:
    """States (T,) of the best path; only the window of states that lie within BEAM is looked at."""
    frames, count = len(emission), len(states.pdf)
    arcs = sorted(states.arcs, key=lambda a: a[1])
    source = np.array([a[0] for a in arcs])
    target = np.array([a[1] for a in arcs])
    weight = np.array([a[2] for a in arcs])
    first_arc = np.searchsorted(target, np.arange(count + 1))
    farthest = np.arange(count)
    np.maximum.at(farthest, source, target)
    farthest = np.maximum.accumulate(farthest)
    alive = np.full(count, -np.inf)
    for state, cost in starts:
        alive[state] = max(alive[state], cost + emission[0, column[state]])
    back: list[tuple[int, np.ndarray]] = [(0, np.zeros(0, np.int32))]
    for t in range(1, frames):
        live = np.flatnonzero(alive > alive.max() - BEAM_WIDTH)
        low, high = int(live[0]), int(farthest[live[-1]]) + 1
        begin, end = first_arc[low], first_arc[high]
        src, dst = source[begin:end], target[begin:end]
        value = alive[src] + weight[begin:end]
        entered, start = np.unique(dst, return_index=True)
        best = np.maximum.reduceat(value, start)
        group = np.repeat(np.arange(len(entered)), np.diff(np.append(start, len(value))))
        hits = np.flatnonzero(value == best[group])
        chosen = np.zeros(len(entered), np.int64)
        chosen[group[hits][::-1]] = hits[::-1]  # the first of equals
        alive[:] = -np.inf
        alive[entered] = best + emission[t, column[entered]]
        previous = np.zeros(high - low, np.int32)
        previous[entered - low] = src[chosen]
        back.append((low, previous))
    total, last = max(((alive[h] + w, h) for h, w in ends), default=(-np.inf, -1))
    if not np.isfinite(total):
        return None
    track = np.empty(frames, np.int64)
    track[-1] = last
    for t in range(frames - 1, 0, -1):
        low, previous = back[t]
        track[t - 1] = previous[track[t] - low]
    return track

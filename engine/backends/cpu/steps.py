"""The steps of one tile, in the order in which data runs: prepare, encode, fuse, decode.

    tile -> prepare -> encode (one segment per modality) -> fuse -> decode (one segment per task) -> logits

Where the base's encoder and the decoders are one graph, the base is only prepared when it arrives, and encoded with the
decoding.

What a step gives is valid until the same session runs that step again; `keep` copies what must live longer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...plan.manifest import Manifest
from ...plan.network import Modality
from ...prepare import prepare_image, prepare_series
from ...stopwatch import Stopwatch
from ...tiles import ImageTile, SeriesTile, Tile
from .segments import CpuSegments, CpuSession, Pyramid
from .series_store import SeriesStore

__all__ = ["Features", "Steps"]


@dataclass(frozen=True)
class Features:
    """What is known of one tile before it is decoded.

    Attributes:
        pyramids: projected pyramid of every modality encoded so far.
        base: prepared pixels [1, C, Y, X] of a base that is encoded when it is decoded; else None.
        rest: sum of all pyramids but the base's at the base's sizes, once all of them are known; else None.
        void: void pixels [Y, X] of the base modality, where any were named.
    """

    pyramids: Mapping[str, Pyramid]
    base: NDArray[np.float32] | None = None
    rest: Pyramid | None = None
    void: NDArray[np.bool_] | None = None


class Steps:
    """The steps of a plan on the processor.

    Args:
        manifest: of the plan.
        segments: of the plan.
        watch: times the steps.
        store: of series that were encoded before.
    """

    def __init__(
        self, manifest: Manifest, segments: CpuSegments, watch: Stopwatch, store: SeriesStore | None = None
    ) -> None:
        self._manifest = manifest
        self._segments = segments
        self._watch = watch
        self._store = store
        self._others = tuple(m.name for m in manifest.modalities if m.name != manifest.base)

    def encode(self, session: CpuSession, tile: Tile, *, known: Features | None = None) -> Features:
        """Features of a tile, together with what was `known` of it.

        Raises:
            TileError: a value that is not finite at a pixel that is not void.
        """
        pyramids = dict(known.pyramids) if known else {}
        pixels = known.base if known else None
        for modality in self._manifest.modalities:
            if modality.name not in tile:
                continue
            record = tile[modality.name]
            if self._segments.joined and modality.name == self._manifest.base and isinstance(record, ImageTile):
                pixels = self._prepared(record, modality)
                continue
            pyramids[modality.name] = self._encoded(session, record, modality)
        base = tile.get(self._manifest.base)
        void = base.void if isinstance(base, ImageTile) else None
        if void is None and known:
            void = known.void
        rest_known = known is not None and not any(name in tile for name in self._others)
        return Features(pyramids, pixels, known.rest if known and rest_known else None, void)

    def _prepared(self, record: ImageTile, modality: Modality) -> NDArray[np.float32]:
        with self._watch.stage("prepare"):
            return prepare_image(record, modality, threads=self._segments.threads)

    def _encoded(self, session: CpuSession, record: ImageTile | SeriesTile, modality: Modality) -> Pyramid:
        if isinstance(record, ImageTile):
            image = self._prepared(record, modality)
            with self._watch.stage("encode"):
                return session.encode_image(modality.name, image)
        if self._store is None:
            return self._encoded_series(session, record, modality)
        with self._watch.stage("look up"):
            key = self._store.key(modality.name, record)
            found = self._store.get(key)
        if found is None:
            found = self._encoded_series(session, record, modality)
            with self._watch.stage("look up"):
                self._store.put(key, found)
        return found

    def _encoded_series(self, session: CpuSession, record: SeriesTile, modality: Modality) -> Pyramid:
        with self._watch.stage("prepare"):
            series = prepare_series(record, modality)
        with self._watch.stage("encode"):
            return session.encode_series(modality.name, *series)

    def fuse(self, session: CpuSession, features: Features) -> Features:
        """Features with the sum of all modalities but the base; those that are absent count with their stand-in."""
        if features.rest is not None:
            return features
        if not self._others:
            return replace(features, rest=())
        ordered = {name: self._pyramid(features, name) for name in self._others}
        with self._watch.stage("fuse"):
            return replace(features, rest=session.fuse(ordered))

    def logits(self, session: CpuSession, features: Features) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Every task and its logits [K, Y, X] at the decoder's own size; takes fused features."""
        tasks = [task.name for task in self._manifest.tasks]
        if features.base is None:
            yield from ((task, self.decode(session, features, task=task)) for task in tasks)
            return
        assert features.rest is not None, "logits takes features that went through fuse"
        with self._watch.stage("encode + decode"):
            found = session.map(self._manifest.base, features.base, features.rest)
        yield from ((task, maps[0]) for task, maps in zip(tasks, found, strict=True))

    def decode(self, session: CpuSession, features: Features, *, task: str) -> NDArray[np.float32]:
        """Logits [K, Y, X] of `task` at the decoder's own size; takes fused features."""
        assert features.rest is not None, "decode takes features that went through fuse"
        base = self._pyramid(features, self._manifest.base)
        with self._watch.stage("decode"):
            logits: NDArray[np.float32] = session.decode(task, base, features.rest)[0]
        return logits

    def keep(self, session: CpuSession, features: Features) -> Features:
        """A copy that outlives the session, fused already where nothing can come any more but the base."""
        pixels = None if features.base is None else features.base.copy()
        kept = Features({name: _copy(p) for name, p in features.pyramids.items()}, pixels, None, features.void)
        open_ = [name for name in self._others if name not in kept.pyramids]
        if not all(self._manifest.modality(name).may_be_absent for name in open_):
            return kept
        rest = self.fuse(session, kept).rest
        assert rest is not None
        return replace(kept, rest=_copy(rest))

    def _pyramid(self, features: Features, name: str) -> Pyramid:
        known = features.pyramids.get(name)
        return self._segments.stand_in(name) if known is None else known


def _copy(pyramid: Pyramid) -> Pyramid:
    return tuple(np.array(level) for level in pyramid)

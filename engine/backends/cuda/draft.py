"""Writes the plan of a frame, step by step in the order in which data runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...launching import (
    AGGREGATED_MAPS,
    KERNEL_TYPES,
    aggregate_request,
    attention_numbers,
    attention_request,
    classify_numbers,
    classify_request,
    fusion_request,
    prepare_request,
    resize_steps,
)
from ...plan.network import Modality, Task
from .built_network import BuiltNetwork, MapShape
from .frame_plan import (
    FrameKey,
    FramePlan,
    KernelLaunch,
    Place,
    features_layout,
    has_rest,
)
from .layout import Layout
from .places import Maps, Places

__all__ = ["plan_frame"]


def plan_frame(network: BuiltNetwork, weights: Layout, key: FrameKey) -> FramePlan:
    """Plan a frame.

    Args:
        network: what runs.
        weights: where parameters of kernels lie, by `<MODALITY>.<argument>`.
        key: for what.

    Raises:
        BackendError: a kernel that the frame needs is not there.
    """
    return _Draft(network, weights, key).plan()


class _Draft(Places):
    def plan(self) -> FramePlan:
        key, manifest = self._key, self._network.manifest
        self._lay_features()
        maps: dict[str, Maps] = {}
        for modality in manifest.modalities:
            if modality.name in key.given:
                maps[modality.name] = self._encode(modality)
            elif modality.name in key.known:
                maps[modality.name] = self._known(modality.name)
        if key.grid is None:
            if self._rest(key.given):
                self._fuse({name: each for name, each in maps.items() if name != manifest.base}, into="features")
        else:
            fused = self._pyramid(maps)
            for task in manifest.tasks:
                self._classify(task, self._decode(task, fused))
        for step in self._steps:
            if isinstance(step, KernelLaunch):
                step.check()
        return FramePlan(key, self._layouts, self._constants, tuple(self._steps), self._known_bytes)

    # what is primed

    def _lay_features(self) -> None:
        """Lay out what the frame primes, or what it finds primed."""
        key, network = self._key, self._network
        names = key.given if key.grid is None else key.known
        self._layouts["features" if key.grid is None else "known"] = features_layout(
            {modality.name: network.levels(modality.name) for modality in network.manifest.modalities},
            base=network.manifest.base,
            modalities=names,
            rest=self._rest(names),
            batch=key.batch,
            dtype=network.short,
        )

    def _rest(self, names: Sequence[str]) -> bool:
        manifest = self._network.manifest
        absent = [modality.name for modality in manifest.modalities if modality.may_be_absent]
        return has_rest(self._network.others, known=names, may_be_absent=absent)

    def _known(self, name: str) -> Maps:
        layout = self._layouts["known"]
        found = [layout[f"{name}.level{level}"] for level in range(len(self._network.levels(name)))]
        self._known_bytes = max(self._known_bytes, found[-1].offset + found[-1].nbytes)
        return [Place("known", slot) for slot in found]

    # encoders

    def _encode(self, modality: Modality) -> Maps:
        if modality.kind == "image":
            name = f"encoder:{modality.name}"
            pixels = self._prepare(modality, KERNEL_TYPES[self._network.payload.part(name).inputs[0].dtype])
            return self._run(name, {"pixels": pixels}, into=self._home, subject=modality.name)
        dates = dict(self._key.dates)[modality.name]
        shape = (self._key.batch, dates, len(modality.channels), modality.tile_px, modality.tile_px)
        pixels = self._input(f"{modality.name}.pixels", shape, "fp32")
        days = self._input(f"{modality.name}.days", shape[:2], "fp32")
        mask = self._input(f"{modality.name}.mask", shape[:2], "fp32")
        if modality.name in self._network.attention:
            return self._encode_cut(modality, dates, pixels=pixels, days=days, mask=mask)
        doors = {"pixels": pixels, "days": days, "mask": mask}
        return self._run(f"encoder:{modality.name}", doors, dates=dates, into=self._home, subject=modality.name)

    def _encode_cut(self, modality: Modality, dates: int, *, pixels: Place, days: Place, mask: Place) -> Maps:
        name = modality.name
        doors = {"pixels": pixels, "mask": mask}
        *skips, features = self._run(f"spatial:{name}", doors, dates=dates, into="work", subject=f"{name}.spatial")
        real = self._input(f"{name}.real", (self._key.batch, dates), "u8")
        context, attention = self._attend(name, dates, features=features, days=days, mask=real)
        sums = self._aggregate(name, dates, skips=skips, attention=attention)
        inner = {"context": context} | {f"sum{place}": each for place, each in enumerate(sums)}
        return self._run(f"temporal:{name}", inner, into=self._home, subject=name)

    def _prepare(self, modality: Modality, dtype: str) -> Place:
        key, side = self._key, modality.tile_px
        sample = KERNEL_TYPES[modality.dtype]
        record = self._find(prepare_request(sample=sample, dtype=dtype, pixels=side * side))
        numbers = {
            "B": key.batch,
            "BANDS": len(modality.bands),
            "C": len(modality.channels),
            "N": side * side,
            "VOIDS": int(key.voided),
        }
        arrays: dict[str, Place | None] = {
            "pixels": self._input(f"{modality.name}.pixels", (key.batch, len(modality.bands), side, side), sample),
            "void": self._input(f"{modality.name}.void", (key.batch, side, side), "u8") if key.voided else None,
            "out": self._work(f"{modality.name}.prepared", (key.batch, len(modality.channels), side, side), dtype),
            "broken": self._broken(f"{modality.name}.broken", record, numbers),
        }
        arrays |= {table: self._weight(f"{modality.name}.{table}") for table in ("band", "minus", "mean", "std")}
        self._launch(record, arrays, numbers)
        out = arrays["out"]
        assert out is not None
        return out

    def _attend(self, name: str, dates: int, *, features: Place, days: Place, mask: Place) -> tuple[Place, Place]:
        weights, short = self._network.attention[name], self._network.short
        B, _, rows, columns, _ = features.slot.shape
        H, D = weights.heads, weights.embedding
        request = attention_request(heads=H, channels=weights.channels, embedding=D, dtype=short, dates=dates)
        context = self._work(f"{name}.context", (B, rows, columns, D), short)
        attention = self._work(f"{name}.attention", (B, dates, rows, columns, H), short)
        arrays: dict[str, Place | None] = {"features": features, "days": days, "mask": mask}
        arrays |= {argument: self._weight(f"{name}.{argument}") for argument in weights.arrays}
        arrays |= {"seed": self._weight("seed"), "context": context, "attention": attention}
        for statistic in ("normaliser", "mean_of", "deviation_of"):
            arrays[statistic] = self._work(f"{name}.{statistic}", (B, rows, columns, H), "fp32")
        numbers: dict[str, int | float] = {"B": B, "T": dates, "N": rows * columns, "dropout": 0.0}
        numbers |= attention_numbers(period=weights.period, entries=D // H)._asdict()
        self._launch(self._find(request), arrays, numbers)
        return context, attention

    def _aggregate(self, name: str, dates: int, *, skips: Maps, attention: Place) -> Maps:
        B, _, rows, columns, H = attention.slot.shape
        sums: Maps = []
        for start in range(0, len(skips), AGGREGATED_MAPS):
            some = skips[start : start + AGGREGATED_MAPS]
            sizes = [each.slot.shape[2:4] for each in some]
            channels = [each.slot.shape[-1] for each in some]
            resized = any(size != (rows, columns) for size in sizes)
            request = aggregate_request(heads=H, channels=channels, dtype=self._network.short, resized=resized)
            numbers: dict[str, int | float] = {"B": B, "T": dates, "YA": rows, "XA": columns}
            arrays: dict[str, Place | None] = {"attention": attention}
            for place in range(AGGREGATED_MAPS):
                size = sizes[place] if place < len(some) else (0, 0)
                numbers |= {f"Y{place}": size[0], f"X{place}": size[1]}
                arrays[f"features{place}"] = arrays[f"out{place}"] = None
                if place < len(some):
                    shape = (B, *size, channels[place])
                    sums.append(self._work(f"{name}.sum{start + place}", shape, self._network.short))
                    arrays |= {f"features{place}": some[place], f"out{place}": sums[-1]}
            self._launch(self._find(request), arrays, numbers)
        return sums

    # fusion

    def _pyramid(self, maps: Mapping[str, Maps]) -> Maps:
        """The fused pyramid that decoders take."""
        network, key = self._network, self._key
        if not network.others:
            return maps[network.manifest.base]
        arrived = any(name in key.given for name in network.others)
        if self._rest(key.known) and key.known and not arrived:
            joined = {name: each for name, each in maps.items() if name == network.manifest.base}
            return self._fuse(joined | {"rest": self._known_rest()}, into="work")
        return self._fuse(maps, into="work")

    def _known_rest(self) -> Maps:
        layout, base = self._layouts["known"], self._network.manifest.base
        found = [layout[f"rest.level{level}"] for level in range(len(self._network.levels(base)))]
        # pyramids of the others lie behind it, and need not be copied
        self._known_bytes = found[-1].offset + found[-1].nbytes
        return [Place("known", slot) for slot in found]

    def _fuse(self, maps: Mapping[str, Maps], *, into: str) -> Maps:
        """Sum of maps and of the stand-ins of what is absent: of all but the base where it is primed."""
        network = self._network
        base = network.manifest.base
        summed = network.others if into == "features" else (base,) if "rest" in maps else (base, *network.others)
        absent = [name for name in summed if name not in maps]
        fused = []
        for level, shape in enumerate(network.levels(network.manifest.base)):
            if into == "features":
                out = Place("features", self._layouts["features"][f"rest.level{level}"])
            else:
                out = self._work(f"fused.level{level}", (self._key.batch, *shape), network.short)
            vectors = [network.stand_ins[name][level] for name in absent]
            bias = self._constant(f"bias.level{level}", np.sum(vectors, axis=0)) if vectors else None
            self._add_maps(shape, [each[level] for each in maps.values()], bias=bias, out=out)
            fused.append(out)
        return fused

    def _add_maps(self, shape: MapShape, maps: Sequence[Place], *, bias: Place | None, out: Place) -> None:
        """Launch the fusion of one level; more maps than a launch takes are added to the sum so far."""
        record = self._find(fusion_request(channels=shape.channels, dtype=self._network.short))
        arguments = [parameter.name for parameter in record.parameters]
        same_places = sum(name.startswith("same") for name in arguments)
        sampled_places = sum(name.startswith("map") for name in arguments)
        same = [each for each in maps if each.slot.shape[1:3] == (shape.rows, shape.columns)]
        sampled = [each for each in maps if each.slot.shape[1:3] != (shape.rows, shape.columns)]
        first = True
        while first or same or sampled:
            head = [] if first else [out]
            here = [*head, *same[: same_places - len(head)]]
            same = same[same_places - len(head) :]
            there, sampled = sampled[:sampled_places], sampled[sampled_places:]
            B, C = self._key.batch, shape.channels
            numbers: dict[str, int | float] = {"B": B, "Y": shape.rows, "X": shape.columns, "CIN": 0, "COUT": C}
            numbers |= {"BIASES": C if bias else 0, "MAPS": len(there)}
            arrays: dict[str, Place | None] = {"base": None, "weight": None, "bias": bias, "out": out}
            for place in range(same_places):
                arrays[f"same{place}"] = here[place] if place < len(here) else None
                numbers[f"BS{place}"] = B if place < len(here) else 0
            for place in range(sampled_places):
                arrays[f"map{place}"] = there[place] if place < len(there) else None
                sizes = there[place].slot.shape[:3] if place < len(there) else (0, 0, 0)
                numbers |= {f"{axis}{place}": size for axis, size in zip("BYX", sizes, strict=True)}
            self._launch(record, arrays, numbers)
            first, bias = False, None

    # decoders

    def _decode(self, task: Task, fused: Maps) -> Place:
        doors = {f"level{level}": each for level, each in enumerate(fused)}
        (logits,) = self._run(f"decode:{task.name}", doors, into="work", subject=task.name)
        return logits

    def _classify(self, task: Task, logits: Place) -> None:
        key, manifest = self._key, self._network.manifest
        assert key.grid is not None
        resizes = [((step.px, step.px), step.align_corners) for step in manifest.resizes(grid=key.grid)]
        source = (manifest.logits_px, manifest.logits_px)
        size = resizes[-1][0] if resizes else source
        steps = resize_steps(source, resizes=resizes)
        record = self._find(classify_request(dtype="fp32", logits_yx=source, map_yx=size, resizes=resizes))
        numbers: dict[str, int | float] = {"B": key.batch, "K": len(task.classes), "VOIDS": int(key.voided)}
        numbers |= classify_numbers(source, map_yx=size, steps=steps)
        arrays: dict[str, Place | None] = {"logits": logits, "void": None}
        if key.voided:
            arrays["void"] = self._input("void", (key.batch, *size), "u8")
        for what in ("labels", "confidence"):
            arrays[what] = self._add("output", f"{task.name}.{what}", (key.batch, *size), "u8")
        arrays["broken"] = self._broken(f"{task.name}.broken", record, numbers)
        self._launch(record, arrays, numbers)

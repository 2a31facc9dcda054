"""Laws of the whole network, on small ones of every kind, in float64."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from uperfuse.engine.errors import CheckpointError, TileError
from uperfuse.trainer.network import NetworkSpec, UPerFuse
from uperfuse.trainer.network.reading import read_spec

ALL = (
    "AERIAL_RGBI",
    "AERIAL-RLT_PAN",
    "DEM_ELEV",
    "SPOT_RGBI",
    "SENTINEL2_TS",
    "SENTINEL1-ASC_TS",
    "SENTINEL1-DESC_TS",
)
TWO_TASKS = {"AERIAL_LABEL-COSIA": 5, "ALL_LABEL-LPIS": 7}
COMBINATIONS = [
    (("AERIAL_RGBI",), {}),
    (("DEM_ELEV",), {}),
    (("SPOT_RGBI",), {"tasks": TWO_TASKS}),
    (("AERIAL_RGBI", "SPOT_RGBI"), {"aux": ("SPOT_RGBI",)}),
    (("AERIAL_RGBI",), {"decoder": "unet"}),
    (("AERIAL-RLT_PAN", "SENTINEL1-DESC_TS"), {"decoder": "unet", "aux": ("AERIAL-RLT_PAN", "SENTINEL1-DESC_TS")}),
    (("DEM_ELEV", "SENTINEL1-ASC_TS", "SENTINEL1-DESC_TS"), {"tasks": TWO_TASKS}),
    (("SENTINEL1-DESC_TS",), {}),
    (("SENTINEL2_TS", "SENTINEL1-ASC_TS"), {"tasks": TWO_TASKS, "aux": ("SENTINEL2_TS",)}),
    (("SENTINEL2_TS", "SENTINEL1-ASC_TS"), {"absent": ("SENTINEL1-ASC_TS",)}),
    (ALL, {"tasks": TWO_TASKS, "absent": ALL, "aux": ALL}),
]


def close(got, want, tolerance=1e-10):
    assert got.shape == want.shape
    assert float((got - want).abs().max()) <= tolerance * float(want.abs().max())


def run(network, batch, **settings):
    with torch.no_grad():
        return network(batch.inputs, batch.days, batch.masks, **settings)


def without(batch, name):
    return replace(batch, inputs={key: value for key, value in batch.inputs.items() if key != name})


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Small tensors gain nothing from a second thread, and lose much where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def everything(spec_of, network_of):
    """All modalities, two tasks, a stand-in for each modality."""
    return network_of(spec_of(*ALL, tasks=TWO_TASKS, absent=ALL))


@pytest.mark.parametrize(("modalities", "settings"), COMBINATIONS, ids=str)
def test_every_combination_is_told_from_its_shapes_and_runs(modalities, settings, spec_of, network_of, tiles_of):
    spec = spec_of(*modalities, **settings)
    network = network_of(spec)
    weights = network.state_dict()
    sides = {image.name: image.tile_px for image in spec.images}
    told = read_spec({key: tuple(value.shape) for key, value in weights.items()}, tile_px=sides)
    # sizes that no key tells fall back to those of the reference
    told = replace(
        told,
        pyramid_channels=spec.pyramid_channels if not spec.images or spec.decoder == "unet" else told.pyramid_channels,
        segmentation_channels=spec.segmentation_channels
        if not spec.images or spec.decoder == "unet"
        else told.segmentation_channels,
        unet_channels=told.unet_channels if spec.images and spec.decoder == "unet" else spec.unet_channels,
    )
    assert told == spec
    again = UPerFuse(told).double().eval()
    again.load_state_dict(weights, strict=True)
    batch = tiles_of(spec)
    first, second = run(network, batch, output_px=(48, 40)), run(again, batch, output_px=(48, 40))
    assert list(first) == [task.name for task in spec.tasks]
    for task in spec.tasks:
        assert first[task.name].shape == (2, task.classes, 48, 40)
        assert first[task.name].std() > 0
        assert torch.equal(first[task.name], second[task.name])


def test_convnext_beside_series(spec_of, network_of, tiles_of, convnext):
    spec = spec_of("AERIAL_RGBI", "SENTINEL2_TS", backbone=convnext)
    network = network_of(spec)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert read_spec(shapes, tile_px={"AERIAL_RGBI": 64}) == replace(spec, unet_channels=(256, 128, 64, 32, 16))
    batch = tiles_of(spec)
    result = run(network, batch)["AERIAL_LABEL-COSIA"]
    assert result.shape == (2, 5, 64, 64)
    batch.inputs["SENTINEL2_TS"] *= -1
    assert (run(network, batch)["AERIAL_LABEL-COSIA"] - result).abs().max() > 1e-3


def test_published_backbones_have_their_published_windows():
    spec = NetworkSpec.flairhub(
        modalities={"SPOT_RGBI": (3, 64), "AERIAL-RLT_PAN": (1, 256), "AERIAL_RGBI": (3, 512)},
        tasks={"AERIAL_LABEL-COSIA": 19},
        encoder="swin_base_patch4_window12_384",
    )
    assert [image.backbone.windows for image in spec.images] == [(12,) * 4, (12, 12, 12, 8), (12, 8, 4, 2)]


@pytest.mark.parametrize(("modalities", "settings"), COMBINATIONS[3:], ids=str)
def test_segments_make_up_the_whole(modalities, settings, spec_of, network_of, tiles_of):
    spec = spec_of(*modalities, **settings)
    network, batch = network_of(spec), tiles_of(spec)
    want = run(network, batch)
    with torch.no_grad():
        projected = {image.name: network.encode_image(image.name, batch.inputs[image.name]) for image in spec.images}
        for series in spec.series:
            name = series.name
            projected[name] = network.encode_series(name, batch.inputs[name], batch.days[name], batch.masks[name])
        # any order: the network knows its own
        projected = {name: network.project(name, projected[name]) for name in reversed(projected)}
        pyramid = network.fuse(projected)
        for task in spec.tasks:
            assert torch.equal(network.enlarge(network.decode(task.name, pyramid)), want[task.name])


def test_fusion_equals_a_convolution_of_the_concatenation(everything, tiles_of):
    spec, batch = everything.spec, tiles_of(everything.spec)
    with torch.no_grad():
        maps = {image.name: everything.encode_image(image.name, batch.inputs[image.name]) for image in spec.images}
        for series in spec.series:
            name = series.name
            maps[name] = everything.encode_series(name, batch.inputs[name], batch.days[name], batch.masks[name])
        pyramid = everything.fuse({name: everything.project(name, maps[name]) for name in ALL})
        for level in range(4):
            size = maps["AERIAL_RGBI"][level].shape[-2:]
            joined = torch.cat([F.interpolate(maps[name][level], size=size, mode="bilinear") for name in ALL], 1)
            close(pyramid[level], everything.fusion_handler["conv_f"][level](joined))


def test_deepest_map_of_a_series_meets_the_finest_level(spec_of, network_of, tiles_of):
    spec = spec_of("AERIAL_RGBI", "SENTINEL2_TS")
    network, batch = network_of(spec), tiles_of(spec)
    name = "SENTINEL2_TS"
    maps = network.encode_series(name, batch.inputs[name], batch.days[name], batch.masks[name])
    assert [each.shape[1] for each in maps] == [16, 16, 8, 8]
    assert [conv.in_channels for conv in network.fusion_handler["conv_f"]] == [8 + 16, 16 + 16, 32 + 8, 64 + 8]


def test_series_alone_are_averaged_and_a_single_task_needs_no_convolution(spec_of, network_of, tiles_of):
    spec = spec_of("SENTINEL2_TS", "SENTINEL1-ASC_TS")
    network, batch = network_of(spec), tiles_of(spec)
    scores = [
        network.encode_series(name, batch.inputs[name], batch.days[name], batch.masks[name])[0]
        for name in spec.modalities
    ]
    want = F.interpolate((scores[0] + scores[1]) / 2, size=(9, 11), mode="bilinear")
    close(run(network, batch, output_px=(9, 11))["AERIAL_LABEL-COSIA"], want.detach())
    assert run(network, batch)["AERIAL_LABEL-COSIA"].shape == (2, 5, 4, 3)


def test_each_task_of_series_alone_has_a_convolution_of_its_own(spec_of, network_of, tiles_of):
    spec = spec_of("SENTINEL2_TS", tasks=TWO_TASKS)
    network, batch = network_of(spec), tiles_of(spec)
    (scores,) = network.encode_series("SENTINEL2_TS", *(part["SENTINEL2_TS"] for part in vars(batch).values()))
    for task, logits in run(network, batch).items():
        close(logits, network.main_decoders[task](scores).detach())


@pytest.mark.parametrize("modalities", [ALL, ("SENTINEL2_TS", "SENTINEL1-ASC_TS")], ids=["all", "series"])
def test_padding_dates_changes_nothing(modalities, spec_of, network_of, tiles_of):
    spec = spec_of(*modalities)
    network, batch = network_of(spec), tiles_of(spec)
    want = run(network, batch)
    generator = torch.Generator().manual_seed(5)
    for count in (1, 8):
        padded = replace(batch, inputs=dict(batch.inputs), days=dict(batch.days), masks=dict(batch.masks))
        for series in spec.series:
            name, dates = series.name, batch.inputs[series.name].shape[1]
            # real dates keep their order and are scattered among the others
            order = torch.randperm(dates + count, generator=generator)
            place = order[:dates].sort().values
            shape = (2, dates + count, *batch.inputs[name].shape[2:])
            pixels = 1e4 * torch.randn(shape, generator=generator, dtype=torch.float64)
            pixels[:, order[dates]] = float("nan")
            pixels[:, place] = batch.inputs[name]
            days = 1000 * torch.randn(2, dates + count, generator=generator, dtype=torch.float64)
            days[:, place] = batch.days[name]
            mask = torch.zeros(2, dates + count, dtype=torch.bool)
            mask[:, place] = True
            padded.inputs[name], padded.days[name], padded.masks[name] = pixels, days, mask
        for task, logits in run(network, padded).items():
            close(logits, want[task])


def test_padding_changes_nothing_in_float32(spec_of, network_of, tiles_of):
    spec = spec_of("AERIAL_RGBI", "SENTINEL2_TS")
    network, batch = network_of(spec, dtype=torch.float32), tiles_of(spec, dates=61)
    inputs = {name: value.float() for name, value in batch.inputs.items()}
    name = "SENTINEL2_TS"
    days, mask = batch.days[name].float(), torch.ones(2, 61)
    with torch.no_grad():
        want = network(inputs, {name: days})["AERIAL_LABEL-COSIA"]
        inputs[name] = F.pad(inputs[name], (0, 0, 0, 0, 0, 0, 0, 35), value=777)
        masks = {name: F.pad(mask, (0, 35))}
        got = network(inputs, {name: F.pad(days, (0, 35), value=1e6)}, masks)["AERIAL_LABEL-COSIA"]
    close(got, want, tolerance=1e-5)


def test_other_samples_of_a_batch_change_nothing(everything, tiles_of):
    batch = tiles_of(everything.spec, samples=3)
    batch.masks["SENTINEL2_TS"][1, 2:] = False
    batch.masks["SENTINEL2_TS"][2] = False
    whole = run(everything, batch)
    for row in range(3):
        single = type(batch)(
            *({key: value[row : row + 1] for key, value in part.items()} for part in vars(batch).values())
        )
        for task, logits in run(everything, single).items():
            close(whole[task][row : row + 1], logits)


@pytest.mark.parametrize("modalities", [("SENTINEL2_TS",), ("AERIAL_RGBI", "SENTINEL2_TS")], ids=str)
def test_without_a_real_date_the_series_tells_nothing(modalities, spec_of, network_of, tiles_of):
    spec = spec_of(*modalities)
    network, batch, other = network_of(spec), tiles_of(spec), tiles_of(spec, seed=1)
    name = "SENTINEL2_TS"
    batch.masks[name][:] = False
    want = run(network, batch)["AERIAL_LABEL-COSIA"]
    assert torch.isfinite(want).all()
    batch.inputs[name], batch.days[name] = other.inputs[name], other.days[name]
    assert torch.equal(run(network, batch)["AERIAL_LABEL-COSIA"], want)
    batch.inputs[name], batch.days[name] = batch.inputs[name][:, :0], batch.days[name][:, :0]
    batch.masks[name] = batch.masks[name][:, :0]
    close(run(network, batch)["AERIAL_LABEL-COSIA"], want)


def test_missing_modality_without_a_stand_in_is_refused(spec_of, network_of, tiles_of):
    spec = spec_of("AERIAL_RGBI", "DEM_ELEV", "SENTINEL2_TS", absent=("DEM_ELEV",))
    network, batch = network_of(spec), tiles_of(spec)
    with pytest.raises(TileError, match=r"SENTINEL2_TS.*missing.*DEM_ELEV"):
        run(network, without(batch, "SENTINEL2_TS"))
    with pytest.raises(TileError, match="SENTINEL2_TS"):
        run(network, batch, present={"SENTINEL2_TS": torch.ones(2, dtype=torch.bool)})
    with pytest.raises(TileError, match="SPOT"):
        run(network, replace(batch, inputs=batch.inputs | {"SPOT": torch.zeros(1)}))
    with pytest.raises(TileError, match="no modality"):
        run(network, replace(batch, inputs={}))
    with pytest.raises(TileError, match="no days"):
        run(network, replace(batch, days={}))


@pytest.mark.parametrize("name", ["DEM_ELEV", "SENTINEL1-ASC_TS", "AERIAL_RGBI"])
def test_missing_modality_equals_one_that_is_marked_absent(name, everything, tiles_of):
    batch = tiles_of(everything.spec)
    nowhere, here = torch.zeros(2, dtype=torch.bool), torch.tensor([True, False])
    full, missing = run(everything, batch), run(everything, without(batch, name))
    for task, logits in run(everything, batch, present={name: nowhere}).items():
        close(logits, missing[task])
    for task, logits in run(everything, batch, present={name: here}).items():
        close(logits[:1], full[task][:1])
        close(logits[1:], missing[task][1:])
        assert (missing[task] - full[task]).abs().max() > 1e-6


def test_a_second_look_is_what_missing_sensors_give_and_encodes_nothing_twice(everything, tiles_of, monkeypatch):
    batch = tiles_of(everything.spec)
    shown = {"DEM_ELEV": torch.tensor([True, False]), "SENTINEL2_TS": torch.tensor([False, False])}
    first, second = run(everything, batch), run(everything, batch, present=shown)
    encoded = []
    monkeypatch.setattr(
        everything, "encode_image", lambda name, x: encoded.append(name) or UPerFuse.encode_image(everything, name, x)
    )
    both = run(everything, batch, shown=shown)
    assert sorted(encoded) == sorted(image.name for image in everything.spec.images)
    for task, logits in both.items():
        close(logits[:2], first[task])
        close(logits[2:], second[task])
        assert (first[task] - second[task]).abs().max() > 1e-6


def test_a_second_look_needs_a_stand_in_and_fits_what_all_lack(spec_of, network_of, everything, tiles_of):
    batch = without(tiles_of(everything.spec), "AERIAL_RGBI")
    shown = {"SPOT_RGBI": torch.tensor([False, False])}
    want = run(everything, without(batch, "SPOT_RGBI"))["ALL_LABEL-LPIS"]
    close(run(everything, batch, shown=shown)["ALL_LABEL-LPIS"][2:], want)
    network = network_of(spec_of("AERIAL_RGBI", "SPOT_RGBI"))
    with pytest.raises(TileError, match="SPOT_RGBI"):
        run(network, tiles_of(network.spec), shown=shown)


def test_everything_but_one_series_may_be_missing(everything, tiles_of):
    batch = tiles_of(everything.spec)
    only = replace(batch, inputs={"SENTINEL2_TS": batch.inputs["SENTINEL2_TS"]})
    result = run(everything, only)
    assert result["ALL_LABEL-LPIS"].shape == (2, 7, 64, 64)
    other = replace(batch, inputs={"SENTINEL2_TS": -batch.inputs["SENTINEL2_TS"]})
    assert (run(everything, other)["ALL_LABEL-LPIS"] - result["ALL_LABEL-LPIS"]).abs().max() > 1e-6


def test_size_of_an_absent_first_image_follows_the_others(everything, tiles_of):
    batch = without(tiles_of(everything.spec), "AERIAL_RGBI")
    twice = {}
    for name, value in batch.inputs.items():
        twice[name] = value.repeat_interleave(2, -1).repeat_interleave(2, -2) if not name.endswith("_TS") else value
    assert run(everything, replace(batch, inputs=twice))["ALL_LABEL-LPIS"].shape == (2, 7, 128, 128)


def test_series_alone_may_miss_a_sensor(spec_of, network_of, tiles_of):
    spec = spec_of("SENTINEL2_TS", "SENTINEL1-ASC_TS", absent=("SENTINEL2_TS",))
    network, batch = network_of(spec), tiles_of(spec)
    name = "SENTINEL1-ASC_TS"
    scores = network.encode_series(name, *(part[name] for part in vars(batch).values()))[0]
    want = (scores + network.absent["SENTINEL2_TS"][0][:, None, None]) / 2
    close(run(network, without(batch, "SENTINEL2_TS"))["AERIAL_LABEL-COSIA"], want.detach())


def test_auxiliary_logits_come_from_their_own_modality(spec_of, network_of, tiles_of):
    spec = spec_of("AERIAL_RGBI", "SPOT_RGBI", "SENTINEL2_TS", aux=("SPOT_RGBI", "SENTINEL2_TS"))
    network, batch, other = network_of(spec), tiles_of(spec), tiles_of(spec, seed=1)
    names = {"SPOT_RGBI__AERIAL_LABEL-COSIA", "SENTINEL2_TS__AERIAL_LABEL-COSIA"}
    want = run(network, batch, aux=True, output_px=(50, 60))
    assert set(want) == names | {"AERIAL_LABEL-COSIA"}
    assert all(logits.shape == (2, 5, 50, 60) for logits in want.values())
    mixed = replace(batch, inputs=batch.inputs | {"AERIAL_RGBI": other.inputs["AERIAL_RGBI"]})
    got = run(network, mixed, aux=True, output_px=(50, 60))
    assert all(torch.equal(got[name], want[name]) for name in names)
    assert not torch.equal(got["AERIAL_LABEL-COSIA"], want["AERIAL_LABEL-COSIA"])
    assert set(run(network, batch)) == {"AERIAL_LABEL-COSIA"}


@pytest.mark.parametrize(("modalities", "settings"), COMBINATIONS, ids=str)
def test_gradients_reach_every_parameter_but_the_dead_ones(modalities, settings, spec_of, network_of, tiles_of):
    spec = spec_of(*modalities, **settings)
    network, batch = network_of(spec).train(), tiles_of(spec, samples=3)
    present = {name: torch.tensor([True, False, True]) for name in spec.absent}
    result = network(batch.inputs, batch.days, batch.masks, present=present, aux=True, output_px=(32, 32))
    sum((logits * torch.linspace(-1, 1, 32).double()).square().mean() for logits in result.values()).backward()
    dead = {name for name, value in network.named_parameters() if value.grad is None}
    expected = {name for name, _ in network.named_parameters() if "fpn_stages.4." in name}
    if not spec.fused:
        expected |= {name for name, _ in network.named_parameters() if name.startswith("fusion_handler.")}
    if not spec.images and len(spec.tasks) == 1:
        expected |= {name for name, _ in network.named_parameters() if name.startswith("main_decoders.")}
    for series in spec.series:
        if spec.images and series.name not in spec.aux:
            root = f"encoders.{series.name}.out_conv."
            expected |= {name for name, _ in network.named_parameters() if name.startswith(root)}
    assert dead == expected
    assert all(torch.isfinite(value.grad).all() for value in network.parameters() if value.grad is not None)


def test_a_few_steps_learn(spec_of, tiles_of):
    spec = spec_of("AERIAL_RGBI", "SENTINEL2_TS", aux=("SENTINEL2_TS",))
    torch.manual_seed(0)
    network = UPerFuse(spec).train()
    batch = tiles_of(spec, samples=4)
    inputs = {name: value.float() for name, value in batch.inputs.items()}
    days = {name: value.float() for name, value in batch.days.items()}
    truth = (inputs["AERIAL_RGBI"][:, 0] > 0).long() + 2 * (torch.arange(64) > 40).long()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        logits = network(inputs, days, batch.masks, aux=True)
        loss = sum(F.cross_entropy(each, truth) for each in logits.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_specifications_that_make_no_network_are_refused(spec_of):
    refused = [
        (lambda: spec_of(), "one or more"),
        (lambda: spec_of("SPOT_RGBI", "AERIAL_RGBI"), "ordered"),
        (lambda: spec_of("AERIAL_RGBI", "AERIAL_RGBI"), "each once"),
        (lambda: spec_of("AERIAL_RGBI", absent=("AERIAL_RGBI",)), "cannot be absent"),
        (lambda: spec_of("AERIAL_RGBI", aux=("DEM_ELEV",)), "aux names"),
        (lambda: spec_of("AERIAL_RGBI", tasks={}), "no task"),
        (lambda: NetworkSpec.flairhub(modalities={"LIDAR": (1, 9)}, tasks={"A": 2}), "LIDAR"),
        (lambda: NetworkSpec.flairhub(modalities={"DEM_ELEV": (1, 9)}, tasks={"A": 2}, encoder="resnet"), "resnet"),
        (lambda: replace(spec_of("SENTINEL2_TS").series[0], heads=3), "attention heads"),
        (lambda: replace(spec_of("SENTINEL2_TS").series[0], decoder_widths=(8, 16, 8)), "mirror"),
        (lambda: replace(spec_of("SENTINEL2_TS").series[0], heads=2, encoder_widths=(6, 8, 16)), "multiples of 4"),
        (lambda: replace(spec_of("SENTINEL2_TS"), images=spec_of("DEM_ELEV").images), "4 maps"),
        (lambda: replace(spec_of("DEM_ELEV").images[0].backbone, dims=(8, 16, 32, 60)), "double"),
        (lambda: replace(spec_of("DEM_ELEV").images[0].backbone, depths=(1, 1)), "4 stages"),
    ]
    for make, words in refused:
        with pytest.raises(CheckpointError, match=words):
            make()


@pytest.mark.parametrize("decoder", ["upernet", "unet"])
@pytest.mark.parametrize("stride", [2, 3, 4])
def test_a_stride_gives_some_pixels_of_the_whole(spec_of, network_of, tiles_of, decoder, stride):
    spec = spec_of("AERIAL_RGBI", "SENTINEL2_TS", decoder=decoder, aux=("AERIAL_RGBI", "SENTINEL2_TS"))
    network = network_of(spec)
    batch = tiles_of(spec)
    for output_px in (None, (96, 80)):
        given = {"output_px": output_px, "aux": True}
        with torch.no_grad():
            whole = network(batch.inputs, batch.days, batch.masks, **given)
            some = network(batch.inputs, batch.days, batch.masks, **given, stride=stride)
        for name, logits in whole.items():
            picked = logits[..., stride // 2 :: stride, stride // 2 :: stride]
            torch.testing.assert_close(some[name], picked, rtol=1e-9, atol=1e-9)

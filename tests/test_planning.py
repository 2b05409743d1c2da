"""fwn.planning: counts of small programs by hand, targets, floors; where a compiler is installed, real programs."""

import importlib.util
import json
import subprocess
import sys
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from jax import lax

from fwn.errors import UserError
from fwn.planning import hlo, launches
from fwn.planning.floor import floor
from fwn.planning.targets import CHIPS, Target, target

# A loop of three trips over a kernel, an all-reduce, a fusion that reads one row of eight, a copy inside a fusion.
TEXT = """HloModule step

%fused_row (param_0: f32[8,4], param_1: s32[]) -> f32[1,4] {
  %param_0 = f32[8,4]{1,0} parameter(0)
  %param_1 = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %row = f32[1,4]{1,0} dynamic-slice(%param_0, %param_1, %zero), dynamic_slice_sizes={1,4}
}

%fused_copy (p: bf16[16]) -> bf16[16] {
  %p = bf16[16]{0} parameter(0)
  ROOT %copied = bf16[16]{0} copy(%p)
}

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %added = f32[] add(%a, %b)
}

%body (state: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %state = (s32[], f32[8,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %x = f32[8,4]{1,0} get-tuple-element(%state), index=1
  %taken = f32[1,4]{1,0} fusion(%x, %i), kind=kLoop, calls=%fused_row
  ROOT %next = (s32[], f32[8,4]{1,0}) tuple(%i, %x)
}

%condition (state.1: (s32[], f32[8,4])) -> pred[] {
  %state.1 = (s32[], f32[8,4]{1,0}) parameter(0)
  ROOT %less = pred[] constant(true)
}

ENTRY %main (x.1: f32[8,4], y: bf16[16]) -> (f32[8,4], bf16[16]) {
  %x.1 = f32[8,4]{1,0} parameter(0)
  %y = bf16[16]{0} parameter(1)
  %start = s32[] constant(0)
  %first = (s32[], f32[8,4]{1,0}) tuple(%start, %x.1)
  %loop = (s32[], f32[8,4]{1,0}) while(%first), condition=%condition, body=%body, backend_config={KNOWN}
  %x.2 = f32[8,4]{1,0} get-tuple-element(%loop), index=1
  %reduced = f32[8,4]{1,0} all-reduce-start(%x.2), replica_groups={{0,1}}, to_apply=%sum
  %called = bf16[16]{0} fusion(%y), kind=kLoop, calls=%fused_copy
  %done = f32[8,4]{1,0} all-reduce-done(%reduced)
  ROOT %both = (f32[8,4]{1,0}, bf16[16]{0}) tuple(%done, %called)
}
"""
KNOWN = '{"known_trip_count":{"n":"3"}}'


def test_counts_by_hand():
    """3 rows of 16 bytes read and written, with an index of 4; 128 bytes summed; 32 bytes copied."""
    program = hlo.read(TEXT.replace("{KNOWN}", KNOWN))
    assert program.counts == {"fusion": 4, "all-reduce": 1}
    assert program.moved == 3 * (16 + 16 + 4) + 2 * 128 + 2 * 32
    (reduced,) = (kernel for kernel in program.kernels if kernel.kind in hlo.COLLECTIVES)
    assert (reduced.sent, reduced.types, reduced.times, reduced.meanwhile) == (128, ("f32",), 1, 64)
    assert (program.rearranged, program.trips, program.unknown) == ({"copy": 1}, {"loop": 3}, 0)


def test_a_scan_of_which_only_the_condition_is_known():
    condition = """  %n = s32[] constant(5)
  %count = s32[] get-tuple-element(%state.1), index=0
  ROOT %less = pred[] compare(%count, %n), direction=LT"""
    text = TEXT.replace("{KNOWN}", "{}").replace("  ROOT %less = pred[] constant(true)", condition)
    program = hlo.read(text)
    assert (program.counts["fusion"], program.trips) == (6, {"loop": 5})


def test_a_loop_of_unknown_length_is_said():
    program = hlo.read(TEXT.replace("{KNOWN}", "{}"))
    assert (program.counts["fusion"], program.unknown) == (2, 1)


def test_the_larger_branch_counts():
    def f(x):
        return lax.cond(x[0] > 0, lambda x: jnp.sort(jnp.sort(x)[::-1] * x), lambda x: x, x)

    text = jax.jit(f).lower(np.ones(64, np.float32)).compile().as_text()
    assert hlo.read(text).counts.total() >= 2


def test_bytes_of_a_real_program():
    """A product of two matrices reads both and writes one: the least that can be moved, on this machine's compiler."""
    a = np.ones((96, 64), np.float32)
    program = hlo.read(jax.jit(lambda a: a @ a.T).lower(a).compile().as_text())
    assert program.moved >= a.nbytes + 96 * 96 * 4
    assert program.counts.total() >= 1


def test_types():
    assert hlo.arrays("(bf16[2,3]{1,0}, f32[], pred[7], u8[1024], f8e4m3fn[5]{0})") == [
        ("bf16", 12),
        ("f32", 4),
        ("pred", 7),
        ("f8", 5),
    ]


@pytest.mark.parametrize(
    ("text", "shape", "link"),
    [
        ("h100", (1, 1), 450e9),
        ("h200:8", (1, 8), 450e9),
        ("a100:64", (8, 8), 200e9),
        ("h100:2x4", (2, 4), 200e9),
        ("h100:2x1", (2, 1), 50e9),
        ("h100:64", (8, 8), 400e9),
        ("v5e:16x16", (16, 16), 200e9),
        ("v5p:4x4x4", (4, 4, 4), 600e9),
    ],
)
def test_targets(text, shape, link):
    found = target(text)
    assert (found.shape, found.size, found.link) == (shape, int(np.prod(shape)), link)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("h1000", "there are a100, h100.*did you mean 'h100'"),
        ("v5e", "its devices are to follow the name"),
        ("h100:", "its devices are to follow the name"),
        ("h100:0", "its devices are to follow the name"),
        ("h100:2x0", "its devices are to follow the name"),
        ("h100:12", "12 devices are no full hosts of 8"),
        ("h100:2x2x2", "GPUs have hosts × devices"),
    ],
)
def test_other_targets_are_refused(text, said):
    with pytest.raises(UserError, match=said):
        target(text)


def test_floor_by_hand():
    """A ring of 8 sends 7/4 of each byte; the other times are counts by the chip's figures."""
    program = hlo.read(TEXT.replace("{KNOWN}", KNOWN))
    found = floor(program, 2, Target("h100:8", CHIPS["h100"], (1, 8)), operations=989e9, half=True)
    expected = 1e-3, program.moved / 3.35e12, 2 * 2.5e-6, 5 * 1e-6, 128 * 7 / 4 / 450e9
    np.testing.assert_allclose(found[:5], expected)
    assert found.own == 1e-3
    assert found.least == found.own + found.waiting
    alone = floor(program, None, target("v5e:1x1"), 0, half=False)
    assert (alone.launches, alone.kernels, alone.links) == (0, 0, 0)


def test_links_wait_for_what_no_other_work_covers():
    """Two all-reduces of 1 ms: during one, memory moves for 0.4 ms, during the other for 5 ms."""
    sent = int(450e6 * 4 / 7)
    kernels = [hlo.Kernel("all-reduce", 1, 0, sent, ("f32",), int(ms * 3.35e9)) for ms in (0.4, 5)]
    program = hlo.Program([*kernels, hlo.Kernel("fusion", 1, int(8 * 3.35e9))], Counter(), {})
    found = floor(program, 0, Target("h100:8", CHIPS["h100"], (1, 8)), operations=0, half=True)
    np.testing.assert_allclose([found.links, found.waiting, found.own, found.least], [2e-3, 0.6e-3, 8e-3, 8.6e-3], 1e-6)
    quick = floor(program._replace(kernels=kernels), 0, Target("h100:8", CHIPS["h100"], (1, 8)), 0, half=True)
    assert quick.least == quick.links


# Two kernels; a loop with a kernel and a command buffer, in which a loop lies; a slice of a library's call.
THUNKS = """001: kCustomKernel [source       | next=005 (4)] loop_fusion grid: [24576, 1, 1] threads: [128, 1, 1]
002: kCopy         [source       | next=003 (1)] kCopy
003: kWhile        [prev=004 (1) | next=017 (1)]
condition:
    004: kCustomKernel [source | sink] loop_compare_fusion grid: [1, 1, 1] threads: [1, 1, 1]
  body:
    005: kConvolution  [source       | next=009 (1)] kConvolution
    000: kCommandBuffer [source | sink]
        006: kWhile        [prev=004 (1) | next=017 (1)]
condition:
            007: kCustomKernel [source | sink] loop_compare_fusion
          body:
            008: kCustomKernel [source | sink] loop_add_fusion
009: kDynamicSliceFusion [source       | next=011 (1)] params=1, results=1
    010: kCopy [source | sink] kCopy
011: kWhile        [prev=009 (1) | next=013 (1)]
condition:
    012: kCustomKernel [source | sink] loop_compare_fusion
  body:
    013: kWhile        [prev=009 (1) | next=013 (1)]
condition:
        014: kCustomKernel [source | sink] loop_compare_fusion
      body:
        015: kCustomKernel [source | sink] loop_add_fusion
016: kFft           [source | sink] (no description)
"""
METADATA = """thunk_metadata {
  thunk_info {
    profile_annotation: "while.1"
    thunk_id: 3
  }
  thunk_kind: "kWhile"
}
thunk_metadata {
  thunk_info {
    profile_annotation: "while.2"
    thunk_id: 11
  }
}
thunk_metadata {
  thunk_info {
    profile_annotation: "while.3"
    thunk_id: 13
  }
}
"""


def test_launches_by_hand(tmp_path):
    """Two, then 7 times a convolution and a buffer, a slice, 3 × 5 kernels, a transform."""
    assert launches.launches(tmp_path, {}) is None
    (tmp_path / "module_0001.step.thunk_sequence_after_thunk_passes.txt").write_text(THUNKS)
    (tmp_path / "module_0001.step.thunk_metadata.txt").write_text(METADATA)
    assert launches.launches(tmp_path, {"while.1": 7, "while.2": 3, "while.3": 5}) == 2 + 7 * 2 + 1 + 3 * 5 + 1
    assert launches.launches(tmp_path, {"while.1": 7, "while.2": None}) == 2 + 7 * 2 + 1 + 1 + 1


@pytest.mark.skipif(importlib.util.find_spec("jax_cuda13_plugin") is None, reason="XLA's compiler for GPUs is missing")
@pytest.mark.parametrize("what", ["train", "sample"])
def test_program_for_a_gpu(what, tmp_path):
    output = tmp_path / "plan.json"
    flags = [f"--config.model.{name}={value}" for name, value in small.MODEL.items()]
    command = [sys.executable, "-m", "fwn.plan", "--config=tiny", *flags, "--target=h100", f"--what={what}"]
    result = subprocess.run([*command, f"--output={output}"], cwd=small.ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    found = json.loads(output.read_text())
    assert found["fits"]
    assert 0 < found["launches"] < sum(found["kernels"].values())

import copy
import platform
import shutil

import pytest
import timm
import torch
import torchvision
from timm.layers import Conv2dSame
from torch import nn

from imgclean.features import precision
from imgclean.features.precision import (
    PRECISIONS,
    FoldedSame,
    Plans,
    feeding,
    fold_batch_norms,
    fold_same_padding,
    memory_kept,
)

CPU = torch.device("cpu")


def settled(model: nn.Module, xb: torch.Tensor) -> nn.Module:
    "`model` with batch norms that have seen something, as after training."
    torch.manual_seed(0)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.5, 2)
            nn.init.normal_(m.bias)
    model.train()
    with torch.no_grad():
        model(xb)
    return model.eval()


def norms(model: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())


def folded(model: nn.Module, xb: torch.Tensor, keep=()) -> int:
    with feeding(model) as pairs:
        model(xb)
    return fold_batch_norms(model, pairs, keep)


@pytest.fixture
def xb():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "make",
    [
        torchvision.models.resnet18,
        torchvision.models.resnet50,
        lambda: timm.create_model("tf_efficientnet_lite0"),
        lambda: timm.create_model("mobilenetv3_small_050"),
    ],
)
@torch.no_grad()
def test_folded_batch_norms_change_no_vector(make, xb):
    torch.manual_seed(0)
    xb = xb.double()  # so that rounding is no matter
    model = settled(make().double(), xb)
    other, expected = copy.deepcopy(model), model(xb)
    assert folded(other, xb) == norms(model) > 10 and norms(other) == 0
    torch.testing.assert_close(other(xb), expected)


@torch.no_grad()
def test_what_does_not_belong_together_is_not_folded(xb):
    conv, norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
    assert folded(nn.Sequential(norm, conv).eval(), xb) == 0
    assert folded(nn.Sequential(conv, nn.ReLU(), norm).eval(), xb) == 0
    assert folded(nn.Sequential(conv, norm, conv, nn.BatchNorm2d(3)).eval(), xb) == 0  # used twice
    assert folded(nn.Sequential(conv, nn.BatchNorm2d(3, track_running_stats=False)).eval(), xb) == 0
    assert folded(nn.Sequential(conv, norm).eval(), xb, keep=["0"]) == 0  # somebody looks at it
    assert folded(nn.Sequential(conv, norm).eval(), xb) == 1


class TwoReaders(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.one, self.other = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.conv(x)
        return self.one(x) + self.other(x)


class TwoNames(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.features = nn.Sequential(self.conv, self.norm)

    def forward(self, x):
        return self.features(x)


@torch.no_grad()
@pytest.mark.parametrize(("make", "n"), [(TwoReaders, 0), (TwoNames, 1)])
def test_modules_with_several_readers_or_names(make, n, xb):
    model = settled(make(), xb)
    other = copy.deepcopy(model)
    assert folded(other, xb) == n
    torch.testing.assert_close(other(xb), model(xb), rtol=1e-4, atol=1e-5)


class Fork(nn.Module):
    "The convolution's output is read by the batch norm and by the sum."

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.end = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3)

    def forward(self, x):
        x = self.conv(x)
        return self.end(self.norm(x) + x)


@torch.no_grad()
def test_a_fold_that_changes_vectors_is_taken_back(xb):
    model = settled(Fork(), xb)
    plans = Plans(model, ["end"], nn.AdaptiveAvgPool2d(2), CPU, xb)
    assert norms(plans.bare) == 1
    expected = nn.AdaptiveAvgPool2d(2)(model(xb)).flatten(1)
    torch.testing.assert_close(plans.network()(xb), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_plans_leave_the_model_as_it_is(xb):
    model = settled(torchvision.models.resnet18(), xb)
    before = copy.deepcopy(model.state_dict())
    plans = Plans(model, ["layer4"], nn.AdaptiveAvgPool2d(1), CPU, xb)
    exact = plans.plain(xb)
    torch.testing.assert_close(plans.network("fp32")(xb), exact, rtol=1e-4, atol=1e-5)
    low = plans.network("bf16")(xb)
    assert low.dtype == torch.float32 and 0 < (low - exact).abs().max() < 0.1 * exact.abs().max()
    plans.close()
    assert norms(model) == 20 and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(not m._forward_hooks for m in model.modules())
    with pytest.raises(ValueError, match="'int3'; give one of fp32, fp32-compile"):
        plans.network("int3")


class Pair(nn.Module):
    def forward(self, x):
        return x, x


@torch.no_grad()
def test_a_layer_that_cannot_be_pooled_leaves_the_model_without_hooks(xb):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), Pair()).eval()
    with pytest.raises(ValueError, match="layer '2' returns tuple"):
        Plans(model, ["2"], nn.AdaptiveAvgPool2d(1), CPU, xb)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@torch.no_grad()
def test_what_runs_only_after_the_layers_is_told(xb):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU()).eval()
    plans = Plans(model, ["0", "1"], nn.AdaptiveAvgPool2d(1), CPU, xb)
    assert plans.unused == {"2", "3"} and [v.shape for v in plans.seen] == [(2, 4), (2, 4)]
    assert Plans(model, ["3", "0"], nn.AdaptiveAvgPool2d(1), CPU, xb).unused == set()


@torch.no_grad()
def test_a_scripted_part_takes_no_hook_and_needs_none(xb):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), torch.jit.script(nn.Conv2d(4, 4, 1))).eval()
    plans = Plans(model, ["0"], nn.AdaptiveAvgPool2d(1), CPU, xb)
    assert plans.unused == {"1"}
    torch.testing.assert_close(plans.network()(xb), model[0](xb).mean((2, 3)))
    plans.close()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model[:2])


@torch.no_grad()
def test_compiled(xb, monkeypatch):
    if not shutil.which("g++") and not shutil.which("clang++"):
        pytest.skip("no C++ compiler, which torch.compile needs on a CPU")
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)  # no processes, which import torch first
    model = settled(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)), xb)
    plans = Plans(model, ["2", "3"], nn.AdaptiveAvgPool2d(1), CPU, xb)
    torch.testing.assert_close(plans.network("fp32-compile")(xb), plans.plain(xb), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_model_that_cannot_be_copied_is_used_itself(xb):
    model = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
    with torch.enable_grad():
        model.kept = model[0].weight * 2  # what a pass with gradients left behind
    plans = Plans(model, ["0"], nn.AdaptiveAvgPool2d(1), CPU, xb)
    assert plans.bare is None and plans.fastest(xb, 10**6) == "fp32"
    torch.testing.assert_close(plans.network()(xb), model(xb).mean((2, 3)))
    with pytest.raises(ValueError, match="cannot be copied; give precision='fp32'"):
        plans.network("bf16")
    plans.plain.unhook()
    assert not model[0]._forward_hooks


@torch.no_grad()
@pytest.mark.parametrize(
    "kernel, groups, size",
    [(3, 1, (16, 16)), (5, 6, (14, 20)), (3, 6, (15, 15)), (5, 2, (16, 13)), (7, 1, (2, 4))],
)
def test_padding_is_folded_into_the_kernel(kernel, groups, size):
    torch.manual_seed(0)
    conv = Conv2dSame(6, 6, kernel, stride=2, groups=groups)
    model = nn.Sequential(
        conv, Conv2dSame(6, 2, 3), Conv2dSame(2, 2, 3, 2, dilation=2), Conv2dSame(2, 2, 4, 2)
    )
    x = torch.randn(2, 6, *size)
    expected, between = model(x), conv(x)
    assert fold_same_padding(model) == 1
    assert isinstance(model[0], FoldedSame) and not isinstance(model[1], FoldedSame)
    torch.testing.assert_close(model[0](x), between)
    torch.testing.assert_close(model(x), expected)
    assert model.bfloat16()(x.bfloat16()).dtype == torch.bfloat16


SECONDS = {"fp32": 1.0, "bf16": 0.4, "fp16": 0.9, "fp32-compile": 0.5, "bf16-compile": 0.2}


@pytest.mark.parametrize(
    ("seconds", "n", "best"),
    [
        (SECONDS, 2, "bf16"),
        (SECONDS, 10**6, "bf16-compile"),  # so many images earn a compilation back
        (SECONDS | {"bf16": 0.95}, 2, "fp32"),  # within the noise
        (SECONDS | {"bf16": float("inf")}, 10**6, "fp32-compile"),
        (SECONDS | {"bf16-compile": 0.39}, 10**6, "bf16"),
    ],
)
def test_the_fastest_is_chosen(monkeypatch, xb, seconds, n, best):
    plans = Plans(nn.Sequential(nn.Conv2d(3, 4, 3)), ["0"], nn.AdaptiveAvgPool2d(1), CPU, xb)
    monkeypatch.setattr(precision, "_eager", lambda device: ["fp32", "bf16"])
    monkeypatch.setattr(Plans, "_seconds", lambda self, name, xb, expected: seconds[name])
    with torch.no_grad():
        assert plans.fastest(xb, n) == best


@torch.no_grad()
def test_what_disagrees_or_fails_is_not_chosen(monkeypatch, xb):
    plans = Plans(nn.Sequential(nn.Conv2d(3, 4, 3)), ["0"], nn.AdaptiveAvgPool2d(2), CPU, xb)
    expected = plans.plain(xb)
    assert plans._seconds("fp32", xb, expected) < float("inf")
    noise = torch.randn(expected.shape) * 0.1 * expected.abs().mean()
    monkeypatch.setattr(Plans, "network", lambda self, name: lambda xb: expected + noise)
    assert plans._seconds("bf16", xb, expected) == float("inf")
    monkeypatch.setattr(Plans, "network", lambda self, name: lambda xb: expected * float("nan"))
    assert plans._seconds("bf16", xb, expected) == float("inf")

    def fails(self, name):
        raise RuntimeError("not implemented for BFloat16")

    monkeypatch.setattr(Plans, "network", fails)
    assert plans._seconds("bf16", xb, expected) == float("inf")


def test_bf16_is_tried_only_where_the_processor_has_units_for_it(monkeypatch):
    for units, tried in [
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"avx512_bf16": False}, False),
    ]:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda units=units: units, raising=False)
        assert ("bf16" in precision._eager(CPU)) == tried
    assert set(precision._eager(torch.device("cuda"))) | set(precision._eager(torch.device("mps"))) < set(
        PRECISIONS
    )


def test_kept_memory_is_not_fetched_again():
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("only glibc's allocator is told to keep memory")
    import resource

    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            torch.ones(64 << 20, dtype=torch.uint8)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    with memory_kept(CPU):
        faults()
        inside = faults()
    assert inside < faults() / 5

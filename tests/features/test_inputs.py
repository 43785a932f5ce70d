import torch

from imgclean.features.inputs import lanes_for


def test_lanes_are_for_cpus_that_can_fork(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr("imgclean.features.inputs._cores", lambda: 5)
    monkeypatch.setattr("imgclean.features.inputs.sys.platform", "linux")
    assert [lanes_for(cpu, 64), lanes_for(cpu, 63), lanes_for(cpu, 10, 3), lanes_for(cpu, 1000, 0)] == [
        5,
        0,
        3,
        0,
    ]
    assert lanes_for(torch.device("cuda"), 1000) == 0
    monkeypatch.setattr("imgclean.features.inputs.sys.platform", "darwin")
    assert lanes_for(cpu, 1000, 3) == 0

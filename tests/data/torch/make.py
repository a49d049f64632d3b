#!/usr/bin/env python3
"""Write the files of this folder with PyTorch itself: `python3 tests/data/torch/make.py tests/data/torch`."""

import sys
from collections import OrderedDict
from pathlib import Path

import torch

folder = Path(sys.argv[1])
ramp = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4) / 8
tensors = {
    "plain": ramp,
    "half": ramp.half(),
    "bfloat16": ramp.bfloat16(),
    "double": ramp.double(),
    "long": torch.arange(5),
    "int": torch.arange(5, dtype=torch.int32),
    "uint8": torch.arange(5, dtype=torch.uint8),
    "bool": torch.arange(5) % 2 == 0,
    "scalar": torch.tensor(0.5),
    "empty": torch.zeros(0, 3),
    "transposed": ramp.permute(2, 0, 1),
    "slice": ramp[1, 1:],
    "every other": ramp.reshape(-1)[1::2],
    "channels last": ramp.reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last),
    "parameter": torch.nn.Parameter(ramp[0]),
}
torch.save(tensors, folder / "protocol2.pth")
torch.save(tensors, folder / "protocol4.pth", pickle_protocol=4)
torch.save(ramp, folder / "one_tensor.pth")
torch.manual_seed(0)
module = torch.nn.utils.weight_norm(torch.nn.Conv1d(2, 3, 5))
with torch.no_grad():
    for number, parameter in enumerate(module.parameters(), 1):
        parameter.copy_(torch.arange(parameter.numel()).reshape(parameter.shape) / (8 * number))
state = module.state_dict()
torch.save({"state_dict": state, "epoch": 3, "lr": 1e-4, "note": "text", "none": None}, folder / "nested.pth")
torch.save(OrderedDict(state), folder / "state_dict.pth")
torch.save(tensors, folder / "legacy.pth", _use_new_zipfile_serialization=False)
torch.save(module, folder / "whole_module.pth")
torch.save({"weight": ramp, "path": Path("x")}, folder / "with_a_path.pth")

"""What holds for all tests."""

import torch

torch.set_num_threads(
    1
)  # as in a bench's worker: on small tensors threads wait for each other more than they work

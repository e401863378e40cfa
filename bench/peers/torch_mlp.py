"""Training steps of an MLP 784-512-512-10 on batches of 128 in PyTorch, as bench's train/mlp."""

import argparse

import torch
import torch.nn.functional as F
from torch import nn

from report import emit, rounds
from torch_gpt import BitLinear


class Bit(nn.Linear):
    def forward(self, x):
        return BitLinear.apply(x, self.weight, 1) + self.bias


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--threads', type=int, default=1)
    p.add_argument('--rounds', type=int, default=9)
    p.add_argument('--ternary', action='store_true')
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    hidden = Bit if a.ternary else nn.Linear
    model = nn.Sequential(hidden(784, 512), nn.ReLU(), hidden(512, 512), nn.ReLU(), nn.Linear(512, 10))
    opt = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=True)
    x, classes = torch.randn(128, 784), torch.randint(10, (128,))

    def step():
        F.cross_entropy(model(x), classes).backward()
        opt.step()
        opt.zero_grad(set_to_none=True)

    for _ in range(20):
        step()
    kind = 'ternary' if a.ternary else 'fp32'
    emit(f'train/mlp/{kind}/784-512-512-10', 'torch', a.threads, 1, 'steps/s', rounds(step, a.rounds, 0.3))


if __name__ == "__main__":
    main()

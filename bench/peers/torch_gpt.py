"""Training steps of the language model of setun's package llm, in PyTorch: the same layers, shapes and optimizer.

Everything is in the cheapest form that PyTorch 1.13 allows: q, k, v are one product, as are gate and up; norms and
quantized layers are autograd functions that keep only what their gradients need; AdamW is the foreach one.
"""

import argparse
import math

import torch
import torch.nn.functional as F
from torch import nn

from report import emit, rounds


class RMSNorm(torch.autograd.Function):
    """y = x * inv * gain, inv = 1/sqrt(mean(x^2) + eps)."""

    @staticmethod
    def forward(ctx, x, gain):
        inv = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(1e-5).rsqrt_()
        ctx.save_for_backward(x, gain, inv)
        return (x * inv).mul_(gain)

    @staticmethod
    def backward(ctx, dy):
        x, gain, inv = ctx.saved_tensors
        hat = x * inv
        p = dy * hat
        dgain = p.sum(tuple(range(x.dim() - 1)))
        mean = p.matmul(gain).unsqueeze_(-1).div_(x.shape[-1])
        return (dy * gain).sub_(hat.mul_(mean)).mul_(inv), dgain


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return RMSNorm.apply(x.float(), self.gain)  # of bfloat16 under autocast


class BitLinear(torch.autograd.Function):
    """y = Q8(x) Q(w)^T with straight-through gradients (Ma et al. 2024): w (parts*out, in) has one scale a part."""

    @staticmethod
    def forward(ctx, x, w, parts):
        v = w.view(parts, -1)
        s = v.abs().mean(1, keepdim=True).clamp_(min=1e-8)
        wq = (v / s).round_().clamp_(-1, 1).mul_(s).view_as(w)
        s = torch.linalg.vector_norm(x, math.inf, dim=-1, keepdim=True).clamp_(min=1e-5).div_(127)
        xq = (x / s).round_().mul_(s)
        if torch.is_autocast_cpu_enabled():
            xq, wq = xq.bfloat16(), wq.bfloat16()
        ctx.save_for_backward(xq, wq)
        return F.linear(xq, wq)

    @staticmethod
    def backward(ctx, dy):
        xq, wq = ctx.saved_tensors
        dw = dy.flatten(0, -2).t().mm(xq.flatten(0, -2))
        return dy.matmul(wq), dw.float(), None


class Linear(nn.Module):
    def __init__(self, width, out, parts, ternary, scale=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(parts * out, width) * scale / math.sqrt(width))
        self.parts, self.ternary = parts, ternary

    def forward(self, x):
        return BitLinear.apply(x, self.weight, self.parts) if self.ternary else F.linear(x, self.weight)


class Block(nn.Module):
    def __init__(self, a, residual):
        super().__init__()
        d, hidden = a.d, (a.d * 8 // 3 + 63) // 64 * 64
        self.heads, self.dim = d // 64, 64
        self.attn_norm, self.mlp_norm, self.q_norm, self.k_norm = Norm(d), Norm(d), Norm(64), Norm(64)
        self.qkv = Linear(d, d, 3, a.ternary)
        self.out = Linear(d, d, 1, a.ternary, residual)
        self.gate_up = Linear(d, hidden, 2, a.ternary)
        self.down = Linear(hidden, d, 1, a.ternary, residual)

    def forward(self, x, mask, cos, sin):
        b, t, d = x.shape
        q, k, v = self.qkv(self.attn_norm(x)).view(b, t, 3, self.heads, self.dim).unbind(2)

        def rotated(x):
            x1, x2 = x.chunk(2, -1)
            x = torch.cat((x1 * cos - x2 * sin, x1 * sin + x2 * cos), -1)
            return x.transpose(1, 2).reshape(-1, t, self.dim)

        q, k = rotated(self.q_norm(q)), rotated(self.k_norm(k))
        v = v.transpose(1, 2).reshape(-1, t, self.dim)
        p = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=self.dim**-0.5).softmax(-1)
        y = torch.bmm(p, v).view(b, self.heads, t, self.dim).transpose(1, 2).reshape(b, t, d)
        x = x + self.out(y)
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class GPT(nn.Module):
    def __init__(self, a):
        super().__init__()
        self.embed = nn.Parameter(0.02 * torch.randn(256, a.d))
        self.blocks = nn.ModuleList(Block(a, (2 * a.layers)**-0.5) for _ in range(a.layers))
        self.norm = Norm(a.d)
        angle = torch.arange(a.context)[:, None] * 10000.0**(-torch.arange(0, 64, 2) / 64)
        self.register_buffer('cos', angle.cos()[:, None])
        self.register_buffer('sin', angle.sin()[:, None])
        self.register_buffer('mask', torch.full((1, a.context, a.context), -math.inf).triu(1))

    def forward(self, ids, targets):
        x = F.embedding(ids, self.embed)
        for block in self.blocks:
            x = block(x, self.mask, self.cos, self.sin)
        logits = F.linear(self.norm(x), self.embed)
        return F.cross_entropy(logits.view(-1, 256), targets.view(-1))


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--d', type=int, default=256)
    p.add_argument('--layers', type=int, default=4)
    p.add_argument('--context', type=int, default=256)
    p.add_argument('--batch', type=int, default=16)
    p.add_argument('--threads', type=int, default=1)
    p.add_argument('--steps', type=int, default=7)
    p.add_argument('--ternary', action='store_true')
    p.add_argument('--bf16', action='store_true', help='autocast the products to bfloat16')
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    model = GPT(a)
    opt = torch.optim.AdamW(model.parameters(), lr=5e-3, betas=(0.9, 0.95), weight_decay=0.1, foreach=True)
    ids, targets = torch.randint(256, (2, a.batch, a.context))

    def step():
        with torch.autocast('cpu', torch.bfloat16, enabled=a.bf16):
            loss = model(ids, targets)
        loss.backward()
        opt.step()
        opt.zero_grad(set_to_none=True)

    weights = 'ternary' if a.ternary else 'bf16' if a.bf16 else 'fp32'
    emit(f'train/gopher/{weights}/d={a.d},l={a.layers}', 'torch-bf16' if a.bf16 else 'torch', a.threads,
         a.batch * a.context, 'tokens/s', rounds(step, a.steps))


if __name__ == "__main__":
    main()

"""stable-audio-tools' diffusion transformer, evaluated for generating: rows of one request or of several at once.

Modules and weights are the library's (`DiffusionTransformer`), and so is every number but for rounding. What differs is
the order of the work:
* what stays the same in every step is computed once: projections of the conditions, keys and values of cross attention,
  rotary angles, positions;
* rows whose tokens are all zeros skip cross attention. None of its layers has a bias, so that keys and values are zeros
  there, and zeros are what it would add;
* nothing is recomputed: the library's own forward pass checkpoints activations also where nothing is trained;
* what a layer has made is changed in place: on a CPU a pass over memory that is new costs more than the arithmetic.

Shapes: `rows` are branches of requests (guidance has two for each), `tokens` are what is prepended and the latents.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from luthier_model.adapter_mix import AdapterMix, Rows
from luthier_model.compiled import CompiledLayers, Speedups
from luthier_model.guidance import Conditioning, Row

COMBINATIONS_KEPT: Final = 4  # of rows, whose keys and values are kept joined
ALL_PLAIN: Final = Rows([None])


@dataclass(frozen=True, eq=False)
class Branch:
    """What a row is told, projected as far as it stays the same in every step; None where the model has no such input.

    `attended`: of each layer keys and values (1, heads, tokens, head width) of cross attention, None where it adds
    nothing. `prepended`: (1, tokens, width). `embedding`: (1, width). `beside`: (1, channels, latents), beside the
    latents. `mix`: adapters that the row is evaluated with.
    """

    attended: tuple[tuple[Tensor, Tensor] | None, ...] | None
    prepended: Tensor | None
    embedding: Tensor | None
    beside: Tensor | None
    mix: AdapterMix | None = None


class Transformer:
    """Evaluates a `DiffusionTransformer` with the features that `configuration.py` accepts.

    `layers`: of passes that it was warmed up for; None = as without speedups.
    """

    def __init__(self, module: Any, speedups: Speedups | None = None) -> None:
        self._module, self._inner = module, module.transformer
        self.layers = CompiledLayers(self._inner.layers, _plain_block, speedups) if speedups else None
        self._rotary: dict[int, tuple[Tensor, Tensor]] = {}
        self._joined: dict[tuple[int, ...], tuple[Sequence[Branch], list[tuple[Tensor, Tensor] | None]]] = {}

    def branch(self, told: Conditioning, mix: AdapterMix | None = None) -> Branch:
        """What a row is told."""
        module, rows = self._module, Rows([mix])
        text, prepended, embedding = (told.get(key) for key in ("cross_attn_cond", "prepend_cond", "global_cond"))
        return Branch(
            None if text is None else self._attended(rows(module.to_cond_embed, text), rows),
            None if prepended is None else rows(module.to_prepend_embed, prepended),
            None if embedding is None else rows(module.to_global_embed, embedding),
            told.get("input_concat_cond"),
            mix,
        )

    def other_branch(self, told: Conditioning, negative: Conditioning | None, mix: AdapterMix | None = None) -> Branch:
        """What guidance steers away from: zeros for text, or a negative prompt with zeros for its padding."""
        prepended = told.get("prepend_cond")
        without: dict[str, Tensor | None] = {**told, "cross_attn_cond": None}
        if prepended is not None:
            without["prepend_cond"] = torch.zeros_like(prepended)
        text = negative.get("negative_cross_attn_cond") if negative else None
        if negative is not None and text is not None:
            mask = negative["negative_cross_attn_mask"]
            without["cross_attn_cond"] = text if mask is None else text * mask.bool()[..., None]
        return self.branch(without, mix)

    def __call__(self, rows: Sequence[Row[Branch]]) -> list[Tensor]:
        """The velocity of each row, shaped as its latents, in the order given. All have as many latents."""
        order = sorted(range(len(rows)), key=lambda at: rows[at].branch.attended is None)  # those that attend first
        found = self._evaluate([rows[at] for at in order])
        answers: dict[int, Tensor] = dict(zip(order, found, strict=True))
        return [answers[at] for at in range(len(rows))]

    def _evaluate(self, rows: Sequence[Row[Branch]]) -> Sequence[Tensor]:
        module, inner, branches = self._module, self._inner, [row.branch for row in rows]
        adapted = Rows([branch.mix for branch in branches])
        x = torch.cat([row.x for row in rows])  # (rows, channels, latents)
        if branches[0].beside is not None:
            x = torch.cat([x, _stacked([branch.beside for branch in branches])], dim=1)
        embedding = self._timesteps([row.t for row in rows], x.device, adapted)  # (rows, width)
        if branches[0].embedding is not None:
            embedding = embedding + _stacked([branch.embedding for branch in branches])
        before = []  # (rows, tokens, width) each
        if inner.num_memory_tokens:
            before.append(inner.memory_tokens.expand(len(rows), -1, -1))
        if branches[0].prepended is not None:
            before.append(_stacked([branch.prepended for branch in branches]))
        modulation = None
        if module.global_cond_type == "adaLN":
            modulation = adapted(inner.global_cond_embedder, embedding)  # (rows, 6 * width)
        else:
            before.append(embedding.unsqueeze(1))

        x = (module.preprocess_conv(x) + x).transpose(1, 2)  # (rows, latents, channels)
        x = torch.cat([*before, adapted(inner.project_in, x)], dim=1)  # (rows, tokens, width)
        if inner.use_sinusoidal_emb:
            x = x + inner.pos_emb(x)
        rotary = self._angles(x.shape[1])
        attended = self._joined_attended([branch for branch in branches if branch.attended is not None])
        fast = self.layers(x, rotary, modulation, attended) if self.layers and adapted.all_plain else None
        if fast is not None:
            x = fast
        else:
            for layer, keys_values in zip(inner.layers, attended, strict=True):
                _block(layer, x, rotary, modulation, keys_values, adapted)
        x = adapted(inner.project_out, x[:, sum(each.shape[1] for each in before) :]).transpose(1, 2)
        velocity: Tensor = module.postprocess_conv(x) + x  # (rows, channels, latents)
        return torch.split(velocity, 1)

    def _timesteps(self, times: Sequence[float], device: torch.device, rows: Rows) -> Tensor:
        t = torch.tensor(times, dtype=torch.float32)
        if device.type == "cuda":
            t = t.pin_memory().to(device, non_blocking=True)
        return rows(self._module.to_timestep_embed, self._module.timestep_features(t[:, None]))

    def _angles(self, tokens: int) -> tuple[Tensor, Tensor]:
        """Cosines of the rotary angles and sines, those of the first half negative; (tokens, angles) each."""
        if tokens not in self._rotary:
            angles, _ = self._inner.rotary_pos_emb.forward_from_seq_len(tokens)
            first, second = angles.sin().chunk(2, dim=-1)
            self._rotary = {tokens: (angles.cos(), torch.cat([-first, second], dim=-1))}
        return self._rotary[tokens]

    def _attended(self, told: Tensor, rows: Rows) -> tuple[tuple[Tensor, Tensor] | None, ...]:
        """Of each layer keys and values (1, heads, tokens, head width) for tokens (1, tokens, width)."""
        found: list[tuple[Tensor, Tensor] | None] = []
        for layer in self._inner.layers:
            attention = layer.cross_attn
            keys, values = (_heads(part, attention.kv_heads) for part in rows(attention.to_kv, told).chunk(2, dim=-1))
            keys = _normed(keys, attention, attention.k_norm if hasattr(attention, "k_norm") else None)
            repeats = attention.num_heads // attention.kv_heads
            if repeats > 1:  # several heads of queries share keys and values
                keys, values = (part.repeat_interleave(repeats, dim=1) for part in (keys, values))
            found.append((keys.contiguous(), values.contiguous()))
        return tuple(found)

    def _joined_attended(self, branches: Sequence[Branch]) -> Sequence[tuple[Tensor, Tensor] | None]:
        """Of each layer the keys and values of all these rows; kept while the same rows come again."""
        if not branches:
            return [None] * len(self._inner.layers)
        if len(branches) == 1:
            return branches[0].attended or ()
        key = tuple(id(branch) for branch in branches)
        if key not in self._joined:
            while len(self._joined) >= COMBINATIONS_KEPT:
                del self._joined[next(iter(self._joined))]
            layers = zip(*(branch.attended or () for branch in branches), strict=True)
            joined: list[tuple[Tensor, Tensor] | None] = [
                (torch.cat([each[0] for each in layer if each]), torch.cat([each[1] for each in layer if each]))
                for layer in layers
            ]
            self._joined[key] = (branches, joined)  # the branches are held, so that no other gets their ids
        return self._joined[key][1]


def _plain_block(
    layer: Any, x: Tensor, rotary: tuple[Tensor, Tensor], modulation: Tensor | None,
    keys_values: tuple[Tensor, Tensor] | None,
) -> None:  # fmt: skip
    """`_block` of rows without adapters."""
    _block(layer, x, rotary, modulation, keys_values, ALL_PLAIN)


def _block(
    layer: Any, x: Tensor, rotary: tuple[Tensor, Tensor], modulation: Tensor | None,
    keys_values: tuple[Tensor, Tensor] | None, rows: Rows,
) -> None:  # fmt: skip
    """One layer, in place over `x` (rows, tokens, width). The first rows attend to `keys_values`, one each; the others
    to nothing.
    """
    if modulation is None:
        x.add_(layer.self_attn_scale(_self_attention(layer.self_attn, layer.pre_norm(x), rotary, rows)))
    else:  # Peebles and Xie 2023, "Scalable Diffusion Models with Transformers", as the library has it
        scale, shift, gate, ff_scale, ff_shift, ff_gate = (
            (layer.to_scale_shift_gate + modulation).unsqueeze(1).chunk(6, dim=-1)
        )
        inside = _self_attention(layer.self_attn, layer.pre_norm(x) * (1 + scale) + shift, rotary, rows)
        x.add_(layer.self_attn_scale(inside.mul_(torch.sigmoid(1 - gate))))
    if keys_values is not None:
        attending = x[: len(keys_values[0])]
        inside = _cross_attention(layer.cross_attn, layer.cross_attend_norm(attending), *keys_values, rows)
        attending += layer.cross_attn_scale(inside)
    if modulation is None:
        x.add_(layer.ff_scale(_feed_forward(layer.ff, layer.ff_norm(x), rows)))
    else:
        inside = _feed_forward(layer.ff, layer.ff_norm(x) * (1 + ff_scale) + ff_shift, rows)
        x.add_(layer.ff_scale(inside.mul_(torch.sigmoid(1 - ff_gate))))


def _feed_forward(module: Any, x: Tensor, rows: Rows) -> Tensor:
    """SwiGLU (Shazeer 2020). Both of its halves are made on their own, so that neither is read across the other."""
    gated, last = module.ff[0].proj, module.ff[2]
    if not isinstance(gated, torch.nn.Linear):  # weights of 8 bits are in one piece
        values, gates = gated(x).chunk(2, dim=-1)
        return rows(last, functional.silu(gates).mul_(values))
    (values, gates), (bias, gates_bias) = gated.weight.chunk(2), gated.bias.chunk(2)
    first, second = slice(0, len(values)), slice(len(values), None)
    opened = functional.silu(rows.changed(gated, x, functional.linear(x, gates, gates_bias), second), inplace=True)
    opened.mul_(rows.changed(gated, x, functional.linear(x, values, bias), first))
    return rows(last, opened)


def _self_attention(attention: Any, x: Tensor, rotary: tuple[Tensor, Tensor], rows: Rows) -> Tensor:
    queries, keys, values = (_heads(part, attention.num_heads) for part in rows(attention.to_qkv, x).chunk(3, dim=-1))
    queries = _normed(queries, attention, attention.q_norm if hasattr(attention, "q_norm") else None)
    keys = _normed(keys, attention, attention.k_norm if hasattr(attention, "k_norm") else None)
    queries, keys = (_rotated(part, *rotary).to(values.dtype) for part in (queries, keys))
    return _joined_heads(attention, functional.scaled_dot_product_attention(queries, keys, values), rows)


def _cross_attention(attention: Any, x: Tensor, keys: Tensor, values: Tensor, rows: Rows) -> Tensor:
    queries = _heads(rows(attention.to_q, x), attention.num_heads)
    queries = _normed(queries, attention, attention.q_norm if hasattr(attention, "q_norm") else None)
    queries, keys = queries.to(values.dtype), keys.to(values.dtype)
    return _joined_heads(attention, functional.scaled_dot_product_attention(queries, keys, values), rows)


def _joined_heads(attention: Any, x: Tensor, rows: Rows) -> Tensor:
    return rows(attention.to_out, x.transpose(1, 2).flatten(2))


def _heads(x: Tensor, heads: int) -> Tensor:
    """(rows, tokens, width) to (rows, heads, tokens, head width)."""
    rows, tokens, width = x.shape
    return x.view(rows, tokens, heads, width // heads).transpose(1, 2)


def _normed(x: Tensor, attention: Any, norm: Any) -> Tensor:
    """Queries or keys, of length one or normed as the model has it (`qk_norm`)."""
    if attention.qk_norm == "l2":
        return functional.normalize(x, dim=-1)
    return x if norm is None else norm(x).to(x.dtype)


def _rotated(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary positions (Su 2021) in float32 on the first `angles` of each head: half of them with the other half.

    In place where `x` is float32.
    """
    whole = x.float()
    turned = whole[..., : cosines.shape[-1]]
    first, second = turned.chunk(2, dim=-1)
    other = torch.cat([second, first], dim=-1)
    turned.mul_(cosines).addcmul_(other, sines)
    return whole


def _stacked(parts: Sequence[Tensor | None]) -> Tensor:
    return torch.cat([part for part in parts if part is not None])

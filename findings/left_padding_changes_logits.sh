#!/usr/bin/env bash
# Left padding with a right attention mask changes what some causal language models of transformers say, without a word.
#
# Guess before it was run: a batch padded on the left, with its mask, gives every prompt the logits that it has alone,
# as the documentation of batched generation suggests; true for Llama.
# Seen (torch 2.13.0, transformers 5.23.0, CPU, float32, tiny random models): RWKV reads the padding as text (its mask is
# taken and not used), RoBERTa as a decoder counts positions from its padding id, so both differ by far more than
# rounding. Whoever scores prompts in batches must try padding on each family before it trusts it.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0
"$folder/env/bin/python" - <<'PY'
import torch, transformers
from transformers import (LlamaConfig, LlamaForCausalLM, RobertaConfig, RobertaForCausalLM, RwkvConfig, RwkvForCausalLM)

transformers.logging.set_verbosity_error()
sizes = dict(vocab_size=120, hidden_size=32, num_hidden_layers=2, pad_token_id=0, bos_token_id=1, eos_token_id=2)
heads = dict(num_attention_heads=4, intermediate_size=48, max_position_embeddings=128)
kinds = {
    "llama": (LlamaForCausalLM, LlamaConfig(**sizes, **heads)),
    "roberta, is_decoder": (RobertaForCausalLM, RobertaConfig(**sizes | {"pad_token_id": 1, "bos_token_id": 0}, **heads, is_decoder=True)),
    "rwkv": (RwkvForCausalLM, RwkvConfig(**sizes, attention_hidden_size=32, context_length=64)),
}
prompt, other = [11, 57, 33, 90], list(range(20, 40))
found = {}
for name, (kind, config) in kinds.items():
    torch.manual_seed(0)
    model = kind(config).eval()
    for weights in model.parameters():
        if weights.ndim > 1:
            weights.data *= 3
    with torch.inference_mode():
        alone = model(input_ids=torch.tensor([prompt])).logits[0, -1]
        gap = len(other) - len(prompt)
        ids = torch.tensor([[5] * gap + prompt, other])
        mask = torch.tensor([[0] * gap + [1] * len(prompt), [1] * len(other)])
        batch = model(input_ids=ids, attention_mask=mask).logits[0, -1]
    found[name] = (alone.softmax(-1) - batch.softmax(-1)).abs().max().item()
    print(f"{name:20} largest difference of a probability, alone and padded: {found[name]:.6f}")
assert found["llama"] < 1e-5, found
assert found["rwkv"] > 1e-3 and found["roberta, is_decoder"] > 1e-3, found
print("as seen: torch", torch.__version__, "transformers", transformers.__version__)
PY

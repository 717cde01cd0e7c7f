#!/usr/bin/env bash
# Greedy answers of Moshi's text model change with the cache of transformers: it forgets what attention still reads.
#
# Guess before it was run: generate() with its cache says what it says with use_cache=False, whatever the model; true
# for Mistral, whose attention has the window that its cache has.
# Seen (torch 2.13.0, transformers 5.23.0, CPU, float32, tiny random models): the cache that generate() makes slides by
# `sliding_window` of the config, and Moshi's attention has no window. From the second token behind the window on the
# logits differ by far more than rounding; a prompt alone, without any padding, is enough. Moshi's own window is 3,000.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0
"$folder/env/bin/python" - <<'PY'
import torch, transformers
from transformers import MistralConfig, MistralForCausalLM, MoshiConfig, MoshiForCausalLM

transformers.logging.set_verbosity_error()
sizes = dict(vocab_size=120, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
sizes["head_dim"] = 8
rest = dict(sliding_window=8, max_position_embeddings=128, pad_token_id=0, bos_token_id=None, eos_token_id=None)
kinds = {
    "mistral": (MistralForCausalLM, MistralConfig(**sizes, **rest, intermediate_size=48)),
    "moshi": (MoshiForCausalLM, MoshiConfig(**sizes, **rest, ffn_dim=48)),
}
found = {}
for name, (kind, config) in kinds.items():
    torch.manual_seed(0)
    model = kind(config).eval()
    for weights in model.parameters():
        if weights.ndim > 1:
            weights.data *= 3
    prompt = torch.arange(20, 40)[None]
    answer = model.generate(
        input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=4, do_sample=False,
        return_dict_in_generate=True, output_logits=True,
    )
    with torch.inference_mode():
        plain = model(input_ids=answer.sequences).logits[0, prompt.shape[1] - 1 : -1]
    found[name] = (plain.softmax(-1) - torch.cat(answer.logits).softmax(-1)).abs().amax(-1).tolist()
    print(f"{name:8} largest difference of a probability, by token:", *(f"{each:.6f}" for each in found[name]))
assert max(found["mistral"]) < 1e-5, found
assert found["moshi"][0] < 1e-5 and max(found["moshi"]) > 1e-3, found
print("as seen: torch", torch.__version__, "transformers", transformers.__version__)
PY

"""Tokenizers as Hugging Face's libraries train, save and apply them, to compare the server's with.

    python3 -m venv venv && venv/bin/pip install transformers==5.24.0 tokenizers==0.23.3 jinja2
    venv/bin/python engine/tests/goldens/text.py

Two small ones in the two ways that models of today use: bytes with merges (Llama 3, Qwen), and pieces with bytes where
there is no piece (Llama 2, Mistral). Each has a chat template in the style of its kind. `text.json` has what
`transformers` makes of texts and conversations, and `tokenizers`' own stream of answers.
"""

import json
import pathlib
import random

import tokenizers
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers.decoders import DecodeStream
from transformers import AutoTokenizer, PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).parent
CORPUS = [
    "The scheduler takes requests from the queue until the token budget of the step is used.",
    "A request that finds no free block waits; one that runs may be preempted and computed again.",
    "Prefill computes all tokens of a prompt at once, decode computes one token of every sequence.",
    "Größere Stapel machen die Karte voller, aber jeder Schritt dauert länger.",
    "def step(batch): return [sample(row) for row in forward(batch)]  # logits",
    "The cache keeps keys and values of tokens, sixteen to a block; blocks of equal content are shared.",
]
TEXTS = [
    "",
    "The scheduler waits.",
    "  two spaces, a tab\tand\n\na break  ",
    "Größe, naïve, 東京, 🦀 and 👩‍🚀",
    "x" * 40,
    "said <|end|> and </s> in a text",
]
LLAMA3 = """{{- bos_token }}
{%- for message in messages %}
    {{- '<|start|>' + message['role'] + '<|end_header|>\\n\\n' + message['content'] | trim + '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant<|end_header|>\\n\\n' }}
{%- endif %}
"""
MISTRAL = """{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'].strip() + '\\n\\n' %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- set ns = namespace(turns=0) %}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {%- set ns.turns = ns.turns + 1 %}
        {{- '[INST] ' + (system_message if loop.first else '') + message['content'].strip() + ' [/INST]' }}
    {%- else %}
        {{- ' ' + message['content'].strip() + eos_token }}
    {%- endif %}
{%- endfor %}
"""
CHATS = [
    [{"role": "user", "content": " Why does it wait? "}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Größe?"}],
    [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two "},
        {"role": "user", "content": "three\nfour"},
    ],
    [{"role": "assistant", "content": "I begin."}],
]


def bytes_with_merges():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|begin|>", "<|end|>", "<|start|>", "<|end_header|>", "<|eot|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=360, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    begin = tokenizer.token_to_id("<|begin|>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", begin)]
    )
    return tokenizer, LLAMA3, {"bos_token": "<|begin|>", "eos_token": "<|eot|>"}, ["<|end|>", "<|eot|>"]


def pieces_with_bytes():
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    # Trained as special so that they are in the vocabulary; the bytes are none.
    text = json.loads(tokenizer.to_str())
    text["added_tokens"] = [token for token in text["added_tokens"] if not token["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(text))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer, MISTRAL, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}, ["</s>"]


def streamed(tokenizer, before, ids):
    """An answer behind a prompt, as vLLM streams it: the decoder knows the end of the prompt."""
    stream = DecodeStream(ids=before, skip_special_tokens=True)
    return [stream.step(tokenizer, token) or "" for token in ids]


def main():
    draws = random.Random(7)
    expected = {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__, "models": []}
    for name, make in [("bytes", bytes_with_merges), ("pieces", pieces_with_bytes)]:
        tokenizer, template, special, ends = make()
        folder = HERE / f"tokenizer-{name}"
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template, **special)
        fast.save_pretrained(folder)
        end_ids = [tokenizer.token_to_id(end) for end in ends]
        (folder / "generation_config.json").write_text(
            json.dumps({"eos_token_id": end_ids if len(end_ids) > 1 else end_ids[0]}) + "\n"
        )
        again = AutoTokenizer.from_pretrained(folder)
        chats = []
        for messages in CHATS:
            try:
                ids = again.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
                chats.append({"messages": messages, "ids": ids})
            except Exception as error:
                chats.append({"messages": messages, "error": str(error)})
        answers = [again(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
        size = tokenizer.get_vocab_size()
        # Bytes that are no characters change what is before them in a decoder with pieces: only whole pieces there.
        whole = [token for token in range(size) if name == "bytes" or not tokenizer.id_to_token(token).startswith("<0x")]
        answers += [[draws.choice(whole) for _ in range(60)] for _ in range(4)]
        backend = again.backend_tokenizer
        before = again("A prompt that ends here:")["input_ids"]
        expected["models"].append(
            {
                "folder": folder.name,
                "vocab": size,
                "ends": end_ids,
                "texts": [{"text": text, "ids": again(text)["input_ids"]} for text in TEXTS],
                "chats": chats,
                "before": before,
                "answers": [
                    {
                        "ids": ids,
                        "pieces": streamed(backend, before, ids),
                        "text": backend.decode(before + ids).removeprefix(backend.decode(before)),
                    }
                    for ids in answers
                ],
            }
        )
    text = json.dumps(expected, ensure_ascii=False, indent=1)
    (HERE / "text.json").write_text(text + "\n")


main()

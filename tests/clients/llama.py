"""A small Llama with random weights and a tokenizer of its own, for a real server on any CPU: python llama.py DIR. No download."""

import random
import sys

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCAB, HIDDEN, LAYERS = 32_000, 512, 8

draw = random.Random(1)
syllables = [first + second for first in "bcdfghjklmnprstvwz" for second in "aeiou"]
words = ["".join(draw.choice(syllables) for _ in range(draw.randint(1, 4))) for _ in range(60_000)]
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
trainer = trainers.BpeTrainer(
    vocab_size=VOCAB,
    special_tokens=["<s>", "</s>", "<pad>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
)
tokenizer.train_from_iterator((" ".join(draw.choice(words) for _ in range(50)) for _ in range(4_000)), trainer)
# Every id of the vocabulary has a text.
tokenizer.add_tokens([f"w{n}" for n in range(VOCAB - tokenizer.get_vocab_size())])
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
fast.chat_template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}assistant:"
fast.save_pretrained(sys.argv[1])

torch.manual_seed(1)
config = LlamaConfig(
    vocab_size=VOCAB,
    hidden_size=HIDDEN,
    intermediate_size=1344,
    num_hidden_layers=LAYERS,
    num_attention_heads=8,
    num_key_value_heads=4,
    head_dim=64,
    max_position_embeddings=4096,
    tie_word_embeddings=True,
    dtype="bfloat16",
)
LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(sys.argv[1])

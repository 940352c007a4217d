"""Writes the server's byte-level tokenizer in Hugging Face's form: DIR/tokenizer.json and tokenizer_config.json.

A byte is the token of its value, so that a client counts prompts as the server does.
"""
import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

# The printable characters that byte-level BPE writes bytes as (GPT-2's table).
plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
others = [byte for byte in range(256) if byte not in plain]
letters = {**{byte: chr(byte) for byte in plain}, **{byte: chr(256 + n) for n, byte in enumerate(others)}}

tokenizer = Tokenizer(models.BPE(vocab={letters[byte]: byte for byte in range(256)}, merges=[]))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
assert tokenizer.encode("aé\n").ids == list("aé\n".encode())
whole = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|begin|>", eos_token="<|end|>", pad_token="<|end|>")
assert whole.convert_tokens_to_ids(["<|begin|>", "<|end|>"]) == [256, 257]
whole.save_pretrained(sys.argv[1])

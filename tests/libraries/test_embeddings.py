"""Embeddings and rerankers: sentence-transformers 6.2."""

from __future__ import annotations

from pathlib import Path

import pytest

from library_hosts import a_library_host, needs, rows_of

pytestmark = [pytest.mark.timeout(300)]

TWO_FOLDERS = """
import transformers
from sentence_transformers import CrossEncoder, SentenceTransformer
from tokenizers import Tokenizer, models
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(500))]
names = dict(pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
words = models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]")
tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), **names)
sizes = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128, vocab_size=1000)
transformers.BertModel(transformers.BertConfig(**sizes)).save_pretrained("base")
transformers.BertForSequenceClassification(transformers.BertConfig(id2label={0: "score"}, **sizes)).save_pretrained("my-reranker")
for folder in ("base", "my-reranker"):
    tokenizer.save_pretrained(folder)
SentenceTransformer("./base").save("my-embedder")
gc.collect()
long_ago()
"""


@needs("sentence-transformers")
def test_an_embedder_and_a_reranker_are_a_row_each_by_the_names_of_their_folders(tmp_path: Path) -> None:
    with a_library_host(tmp_path) as host:
        host.tell(TWO_FOLDERS)
        host.tell("embedder, reranker = SentenceTransformer('my-embedder'), CrossEncoder('my-reranker')")
        found = {row.class_name: row for row in rows_of(host, 2)}
        embedder, reranker = found["SentenceTransformer"], found["CrossEncoder"]
        assert (embedder.name, embedder.kind, reranker.name) == ("my-embedder", "embedding", "my-reranker")
        assert embedder.resident_bytes == host.tell("held_by(embedder)")
        assert reranker.resident_bytes == host.tell("held_by(reranker.model)")
        assert embedder.parameters == host.tell("elements_of(embedder)")

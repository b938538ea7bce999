"""Speech recognition: openai-whisper 20250625, whose alignment heads are a sparse buffer that isn't saved."""

from __future__ import annotations

from pathlib import Path

import pytest

from library_hosts import a_library_host, needs, rows_of

pytestmark = [pytest.mark.timeout(300)]

A_SMALL_WHISPER = """
import whisper
sizes = dict(n_mels=80, n_audio_ctx=50, n_audio_state=64, n_audio_head=2, n_audio_layer=2)
sizes |= dict(n_vocab=500, n_text_ctx=32, n_text_state=64, n_text_head=2, n_text_layer=2)
made = whisper.model.Whisper(whisper.model.ModelDimensions(**sizes))
torch.save({"dims": sizes, "model_state_dict": made.state_dict()}, "tiny.pt")
del made
long_ago()
"""


@needs("openai-whisper")
def test_a_whisper_is_one_audio_model_by_the_name_of_its_file(tmp_path: Path) -> None:
    with a_library_host(tmp_path) as host:
        host.tell(A_SMALL_WHISPER)
        host.tell("model = whisper.load_model('tiny.pt')")
        size = host.tell(
            "distinct(*model.parameters(), *[b for b in model.buffers() if b.layout is torch.strided],"
            " model.alignment_heads._indices(), model.alignment_heads._values())"
        )
        (row,) = rows_of(host, 1)
        assert (row.name, row.class_name, row.kind) == ("tiny", "Whisper", "audio")
        assert (row.resident_bytes, row.parameters) == (size, host.tell("elements_of(model)"))

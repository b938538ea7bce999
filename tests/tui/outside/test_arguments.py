"""Tests of what commands name: as people run servers, and what must not be taken for a model."""

from __future__ import annotations

import shlex

import pytest

from gpumodels_tui.outside.arguments import models_in, program_of

BLOB = "/root/.ollama/models/blobs/sha256-" + "a" * 64


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("llama-server -m /m/Qwen3-8B-Q4_K_M.gguf -ngl 99", ["-m /m/Qwen3-8B-Q4_K_M.gguf"]),
        ("llama-server -hf bartowski/Qwen3-8B-GGUF:Q4_K_M", ["-hf bartowski/Qwen3-8B-GGUF:Q4_K_M"]),
        ("llama-server --model=/m/a.gguf --lora /m/b.gguf", ["--model /m/a.gguf", "--lora /m/b.gguf"]),
        ("python3 -m llama_cpp.server --model ./a.gguf", ["--model ./a.gguf"]),
        ("/usr/bin/python3 /opt/bin/vllm serve Qwen/Qwen3-8B --port 8000", [" Qwen/Qwen3-8B"]),
        ("vllm serve --port 8000 --model Qwen/Qwen3-8B", ["--model Qwen/Qwen3-8B"]),
        ("vllm serve base --lora-modules a=org/a b=/m/b --port 1", [" base", "--lora-modules org/a", "--lora-modules /m/b"]),
        ("python -m vllm.entrypoints.openai.api_server --model org/name", ["--model org/name"]),
        ("python -m sglang.launch_server --model-path org/name", ["--model-path org/name"]),
        ("python generate.py --model_name_or_path org/name", ["--model_name_or_path org/name"]),
        (f"/usr/bin/ollama runner --model {BLOB} --port 43211", [f"--model {BLOB}"]),
        ("koboldcpp /m/a.gguf 5001", [" /m/a.gguf"]),
        ("text-generation-launcher --model-id org/name", ["--model-id org/name"]),
        ("python -m torch.distributed.run train.py", []),
        ("torchrun -m train --lr 1", []),
        ("git commit -m fix", []),
        ("python train.py --save-to /out/new.safetensors", []),
        ("python train.py --vae", []),
        ("python main.py --lora true --checkpoint 10", []),
        ("llama-server --model", []),
        ("llama-server --model --port 1", []),
        ("", []),
        ("python", []),
        ("python -c 'print(1)'", []),
    ],
)
def test_a_command_names_its_models(command: str, named: list[str]) -> None:
    assert [f"{model.flag} {model.value}" for model in models_in(shlex.split(command))] == named


def test_a_model_that_is_named_twice_is_one_and_endless_commands_end() -> None:
    assert len(models_in(["llama-server", "--model", "/a.gguf", "-m", "/a.gguf"])) == 1
    assert len(models_in(["x", *(f"/m/{number}.gguf" for number in range(100_000))])) == 16
    assert models_in(["x", "--model", "y" * 2000]) == ()


@pytest.mark.parametrize(
    ("command", "program"),
    [
        (("/usr/local/bin/llama-server", "-m", "a.gguf"), "llama-server"),
        (("python3.12", "-X", "dev", "-u", "/opt/ComfyUI/main.py", "--listen"), "main.py"),
        (("python", "-m", "vllm.entrypoints.openai.api_server"), "vllm.entrypoints.openai.api_server"),
        (("VLLM::EngineCore",), "VLLM::EngineCore"),
        (("nginx: worker process",), "nginx"),
        (("/opt/my program/run it", "now"), "run it"),
        (("",), ""),
        ((), ""),
    ],
)
def test_what_runs_is_said_in_a_word(command: tuple[str, ...], program: str) -> None:
    assert program_of(command) == program

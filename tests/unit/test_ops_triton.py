"""The Triton kernels: equal to the torch path through Triton's interpreter, and compilable.

The interpreter is chosen by the environment when Triton is imported, so it runs in a process of
its own: this file, run as a program.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton has no package for this platform")


@pytest.mark.slow
@pytest.mark.parametrize("case", ["sample", "convolution", "attention", "band", "bf16"])
def test_kernels_equal_the_torch_path_forward_and_backward(case: str) -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.unit.test_ops_triton", case]
    root = Path(__file__).parents[2]
    run = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("features", ["fp32", "bf16"])
@pytest.mark.parametrize("kernel", ["sample", "sample_backward", "attend", "attend_backward"])
def test_kernels_compile_for_a_gpu_without_one(
    kernel: str, features: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from stvsr.ops import triton_kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    function = getattr(triton_kernels, f"_{kernel}_kernel")
    constants = {
        "K": 9,
        "SIDE": 3,
        "K_P": 16,
        "T_TOP": 2,
        "T_TOP_P": 2,
        "G": 8,
        "CG": 9,
        "CG_P": 16,
    }
    constants["BLOCK"] = triton_kernels.BLOCK
    if kernel.startswith("sample"):
        del constants["K"]
    in_float32 = {"offset", "modulation", "weight", "grad_weight"}
    signature = {}
    for name in function.arg_names:
        if name in constants:
            signature[name] = "constexpr"
        elif name in {"N", "h", "H", "W", "K"}:
            signature[name] = "i32"
        elif name == "chosen":
            signature[name] = "*u8"
        else:
            gradient = name.startswith("grad_") and name != "grad_mixed"
            signature[name] = f"*{'fp32' if name in in_float32 or gradient else features}"
    positions = {
        (function.arg_names.index(name),): value
        for name, value in constants.items()
        if name in function.arg_names
    }
    source = ASTSource(fn=function, signature=signature, constexprs=positions)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    assert compiled.asm["cubin"]


def test_without_triton_cuda_takes_the_torch_path_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    from stvsr import ops
    from stvsr.ops import cuda

    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "stvsr.ops.triton_kernels", raising=False)
    monkeypatch.delattr(ops, "triton_kernels", raising=False)  # an earlier test may have loaded it
    cuda._triton_kernels.cache_clear()
    try:
        assert cuda.kernels_for(torch.zeros(1)) is None
        assert cuda.kernels_for(torch.zeros(2)) is None
    finally:
        cuda._triton_kernels.cache_clear()
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1
    assert "pip install triton" in warnings[0]


def check(case: str) -> None:
    """Compare the code that CUDA runs with torch's, on CPU tensors, in Triton's interpreter."""
    import torch

    from stvsr.ops import attention, deform_conv, sampling, triton_kernels
    from tests.unit.test_ops import attention_inputs, convolution_inputs, numbers, sampling_inputs

    single = torch.float32
    match case:
        case "sample":
            for k in (1, 3, 5):
                inputs = sampling_inputs(k, single)
                same(sampling.sample_on_cuda, sampling.sample_by_torch, inputs)
                grad = numbers(*sampling.sample_by_torch(*inputs).shape, dtype=single)
                same(
                    sampling.sample_backward_on_cuda,
                    sampling.sample_backward_by_torch,
                    [grad, *inputs],
                )
        case "convolution":
            inputs = convolution_inputs(single)
            deform_conv.CUDA_PIXELS = 1
            same(deform_conv.deform_conv_on_cuda, deform_conv.deform_conv_by_torch, inputs)
            grad = numbers(*deform_conv.deform_conv_by_torch(*inputs).shape, dtype=single)
            same(
                deform_conv.deform_conv_backward_on_cuda,
                deform_conv.deform_conv_backward_by_torch,
                [grad, *inputs[:4]],
            )
        case "attention":
            # two clips, two other frames and three blocks; then one of each
            for k, T_top, block, some in ((3, 2, 16, 2), (1, 1, 64, 1), (5, 3, 64, 1)):
                triton_kernels.BLOCK = block
                query, *others = attention_inputs(k, single)
                inputs = [query[:some], *(tensor[:some, :some] for tensor in others)]
                same(attention.attend_on_cuda, attention.attend_by_torch, [*inputs, T_top], sets=2)
                mixed, weight, chosen = attention.attend_by_torch(*inputs, T_top)  # type: ignore[arg-type, call-arg]
                grads = [numbers(*mixed.shape, dtype=single), numbers(*weight.shape, dtype=single)]
                same(
                    attention.attend_backward_on_cuda,
                    attention.attend_backward_by_torch,
                    [*grads, *inputs, chosen],
                )
        case "band":
            rows = slice(0, 3)
            image, *where = sampling_inputs(3, single)
            given = [image, *(tensor[..., rows, :] for tensor in where)]
            same(sampling.sample_on_cuda, sampling.sample_by_torch, given)
            grad = numbers(*sampling.sample_by_torch(*given).shape, dtype=single)
            same(
                sampling.sample_backward_on_cuda,
                sampling.sample_backward_by_torch,
                [grad, *given],
            )
            query, key, value, *where = attention_inputs(3, single)
            given = [query[..., rows, :], key, value, *(tensor[..., rows, :] for tensor in where)]
            same(attention.attend_on_cuda, attention.attend_by_torch, [*given, 2], sets=2)
            mixed, weight, chosen = attention.attend_by_torch(*given, 2)  # type: ignore[arg-type, call-arg]
            grads = [numbers(*mixed.shape, dtype=single), numbers(*weight.shape, dtype=single)]
            same(
                attention.attend_backward_on_cuda,
                attention.attend_backward_by_torch,
                [*grads, *given, chosen],
            )
        case "bf16":
            image, *where = sampling_inputs(3, single)
            given = [image.bfloat16(), *where]
            same(sampling.sample_on_cuda, sampling.sample_by_torch, given)
            grad = numbers(*sampling.sample_by_torch(*given).shape, dtype=torch.bfloat16)
            same(
                sampling.sample_backward_on_cuda,
                sampling.sample_backward_by_torch,
                [grad, *given],
            )
            query, key, value, *where = attention_inputs(3, single)
            given = [query.bfloat16(), key.bfloat16(), value.bfloat16(), *where]
            same(attention.attend_on_cuda, attention.attend_by_torch, [*given, 2], sets=2)
            mixed, weight, chosen = attention.attend_by_torch(*given, 2)  # type: ignore[arg-type, call-arg]
            grads = [numbers(*mixed.shape, dtype=mixed.dtype), numbers(*weight.shape, dtype=single)]
            same(
                attention.attend_backward_on_cuda,
                attention.attend_backward_by_torch,
                [*grads, *given, chosen],
            )


def same(first, second, inputs, sets: int | None = None) -> None:
    """Both give equal tensors; of several, the first `sets` are compared."""
    import torch

    results = [function(*inputs) for function in (first, second)]
    pairs = [result if isinstance(result, tuple) else (result,) for result in results]
    for got, expected in list(zip(*pairs, strict=True))[:sets]:
        tolerance = 1e-2 if got.dtype == torch.bfloat16 else 1e-4
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=tolerance)


if __name__ == "__main__":
    check(sys.argv[1])

"""CUDA C++ of the kernels in batchsr.models.compute.cuda, which says what each of them computes.

MLX gives a kernel its inputs by name, their shapes as `x_shape` and so on, and types and constants as a template.
Each body is compiled for this processor too, to be tested (tests/model/cuda_on_cpu.py).
"""

from __future__ import annotations

from batchsr.models.compute.cuda_products import ATTENTION, CONV, PRODUCT

VECTORS = """
template <typename T> struct __align__(2 * sizeof(T)) Two { T v[2]; };
template <typename T, int N> struct __align__(N * sizeof(T)) Some { T v[N]; };
template <typename T> struct __align__(16) Eight { T v[8]; };

template <typename T> __device__ __forceinline__ void load8(const T* p, float (&out)[8]) {
  const Eight<T> eight = *reinterpret_cast<const Eight<T>*>(p);
#pragma unroll
  for (int e = 0; e < 8; ++e) out[e] = float(eight.v[e]);
}

template <typename T> __device__ __forceinline__ void store8(T* p, const float (&in)[8]) {
  Eight<T> eight;
#pragma unroll
  for (int e = 0; e < 8; ++e) eight.v[e] = T(in[e]);
  *reinterpret_cast<Eight<T>*>(p) = eight;
}

// Two neighbouring values of half precision as one word.
template <typename T> __device__ __forceinline__ unsigned word(const T* p) {
  return *reinterpret_cast<const unsigned*>(p);
}

// The sum of a value over eight neighbouring threads, the same in all of them.
__device__ __forceinline__ float sum8(float value) {
#pragma unroll
  for (int k = 1; k < 8; k *= 2) value += __shfl_xor_sync(0xffffffffu, value, k);
  return value;
}
"""

# `sizes`: vectors of eight in all, and in a position.
ADD = """
  const int at = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (at >= sizes[0]) return;
  float a[8], b[8], c[8];
  load8(x + size_t(at) * 8, a);
  load8(h + size_t(at) * 8, b);
  load8(bias + at % sizes[1] * 8, c);
#pragma unroll
  for (int e = 0; e < 8; ++e) a[e] += b[e] + c[e];
  store8(y + size_t(at) * 8, a);
"""

# x in two halves: the first times the GELU of the second.
GEGLU = """
  const int channels = x_shape[1] / 2, vectors = channels / 8, at = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (at >= x_shape[0] * vectors) return;
  const size_t from = size_t(at / vectors) * x_shape[1] + at % vectors * 8;
  float a[8], gate[8];
  load8(x + from, a);
  load8(x + from + channels, gate);
#pragma unroll
  for (int e = 0; e < 8; ++e) a[e] *= 0.5f * gate[e] * (1.0f + erff(gate[e] * 0.70710678118654752f));
  store8(y + size_t(at) * 8, a);
"""

# Sums over a slab of positions, and sums of squares, about the group's first value: a large mean then costs no digits.
# A thread takes eight neighbouring channels of every LANES-th position. `sizes` of all three kernels: slabs of a row,
# positions, channels, rows of the bias.
STATISTICS = """
  __shared__ float sums[8 * 256], squares[8 * 256];
  const int P = sizes[1], C = sizes[2], size = C / 32, vectors = C / 8, lanes = 256 / vectors;
  const int slabs = sizes[0], row = blockIdx.x / slabs, slab = blockIdx.x % slabs;
  const int v = threadIdx.x % vectors, lane = threadIdx.x / vectors;
  const size_t origin = size_t(row) * P * C;
  const int begin = int((long long)(P) * slab / slabs), end = int((long long)(P) * (slab + 1) / slabs);
  float s[8], q[8], offset[8];
  load8(bias + (sizes[3] > 1 ? row * C : 0) + v * 8, offset);
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    s[e] = q[e] = 0.0f;
    offset[e] -= float(x[origin + (v * 8 + e) / size * size]);
  }
  if (lane < lanes)
    for (int p = begin + lane; p < end; p += lanes) {
      float a[8];
      load8(x + origin + size_t(p) * C + v * 8, a);
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        const float d = a[e] + offset[e];
        s[e] += d;
        q[e] = fmaf(d, d, q[e]);
      }
    }
#pragma unroll
  for (int e = 0; e < 8; ++e) { sums[threadIdx.x * 8 + e] = s[e]; squares[threadIdx.x * 8 + e] = q[e]; }
  __syncthreads();
  const int g = threadIdx.x / 8;
  float total = 0.0f, power = 0.0f;
  for (int i = threadIdx.x % 8; i < lanes * size; i += 8) {
    const int at = i / size * C + g * size + i % size;
    total += sums[at];
    power += squares[at];
  }
  total = sum8(total);
  power = sum8(power);
  if (threadIdx.x % 8 == 0) {
    partial[(size_t(blockIdx.x) * 32 + g) * 2] = total;
    partial[(size_t(blockIdx.x) * 32 + g) * 2 + 1] = power;
  }
"""

# `options`: the norm's epsilon; whether SiLU follows.
NORMALISE = """
  __shared__ float means[32], scales[32];
  const int P = sizes[1], C = sizes[2], size = C / 32, vectors = C / 8, lanes = 256 / vectors;
  const int slabs = sizes[0], parts = 2 * slabs;
  const int row = blockIdx.x / parts, part = blockIdx.x % parts;
  const size_t origin = size_t(row) * P * C;
  const int g = threadIdx.x / 8;
  float total = 0.0f, power = 0.0f;
  for (int k = threadIdx.x % 8; k < slabs; k += 8) {
    total += partial[((row * slabs + k) * 32 + g) * 2];
    power += partial[((row * slabs + k) * 32 + g) * 2 + 1];
  }
  total = sum8(total);
  power = sum8(power);
  if (threadIdx.x % 8 == 0) {
    const float n = float(P) * size, mean = total / n;
    means[g] = mean + float(x[origin + g * size]);
    scales[g] = rsqrtf(fmaxf(power / n - mean * mean, 0.0f) + options[0]);
  }
  __syncthreads();
  const int v = threadIdx.x % vectors, lane = threadIdx.x / vectors;
  if (lane >= lanes) return;
  float scale[8], shift[8];
  load8(bias + (sizes[3] > 1 ? row * C : 0) + v * 8, shift);
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    const int c = v * 8 + e;
    scale[e] = scales[c / size] * float(weight[c]);
    shift[e] = fmaf(shift[e] - means[c / size], scale[e], float(beta[c]));
  }
  const int begin = int((long long)(P) * part / parts), end = int((long long)(P) * (part + 1) / parts);
  const bool activate = options[1] != 0.0f;
  for (int p = begin + lane; p < end; p += lanes) {
    float a[8];
    load8(x + origin + size_t(p) * C + v * 8, a);
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      a[e] = fmaf(a[e], scale[e], shift[e]);
      if (activate) a[e] = __fdividef(a[e], 1.0f + __expf(-a[e]));
    }
    store8(y + origin + size_t(p) * C + v * 8, a);
  }
"""

# The two in one, for few positions: a block has a group of a row. A thread takes V neighbouring channels at a time.
SMALL_NORM = """
  __shared__ float sums[8], squares[8];
  const int P = sizes[1], C = sizes[2], size = C / 32, pieces = size / V;
  const int row = blockIdx.x / 32, channel = blockIdx.x % 32 * size;
  const size_t origin = size_t(row) * P * C + channel;
  const T* shifts = bias + (sizes[3] > 1 ? row * C : 0) + channel;
  const float about = float(x[origin]);
  float total = 0.0f, power = 0.0f;
  for (int i = threadIdx.x; i < P * pieces; i += 256) {
    const int c = i % pieces * V;
    const Some<T, V> a = *reinterpret_cast<const Some<T, V>*>(x + origin + size_t(i / pieces) * C + c);
#pragma unroll
    for (int e = 0; e < V; ++e) {
      const float d = float(a.v[e]) + (float(shifts[c + e]) - about);
      total += d;
      power = fmaf(d, d, power);
    }
  }
#pragma unroll
  for (int k = 1; k < 32; k *= 2) {
    total += __shfl_xor_sync(0xffffffffu, total, k);
    power += __shfl_xor_sync(0xffffffffu, power, k);
  }
  if (threadIdx.x % 32 == 0) { sums[threadIdx.x / 32] = total; squares[threadIdx.x / 32] = power; }
  __syncthreads();
  total = power = 0.0f;
  for (int w = 0; w < 8; ++w) { total += sums[w]; power += squares[w]; }
  const float n = float(P) * size, mean = total / n;
  const float spread = rsqrtf(fmaxf(power / n - mean * mean, 0.0f) + options[0]);
  const bool activate = options[1] != 0.0f;
  for (int i = threadIdx.x; i < P * pieces; i += 256) {
    const int c = i % pieces * V;
    const size_t at = origin + size_t(i / pieces) * C + c;
    Some<T, V> a = *reinterpret_cast<const Some<T, V>*>(x + at);
#pragma unroll
    for (int e = 0; e < V; ++e) {
      const float scale = spread * float(weight[channel + c + e]);
      const float shift = fmaf(float(shifts[c + e]) - (mean + about), scale, float(beta[channel + c + e]));
      float value = fmaf(float(a.v[e]), scale, shift);
      if (activate) value = __fdividef(value, 1.0f + __expf(-value));
      a.v[e] = T(value);
    }
    *reinterpret_cast<Some<T, V>*>(y + at) = a;
  }
"""

SOURCES = {
    "add": (["x", "h", "bias", "sizes"], "y", VECTORS, ADD),
    "geglu": (["x"], "y", VECTORS, GEGLU),
    "statistics": (["x", "bias", "sizes"], "partial", VECTORS, STATISTICS),
    "normalise": (["x", "partial", "bias", "weight", "beta", "options", "sizes"], "y", VECTORS, NORMALISE),
    "small_norm": (["x", "bias", "weight", "beta", "options", "sizes"], "y", VECTORS, SMALL_NORM),
    "attention": (["qkv", "options", "sizes"], "y", VECTORS + PRODUCT, ATTENTION),
    "conv": (["x", "w", "bias", "residual", "options"], "y", VECTORS + PRODUCT, CONV),
}
"""Inputs, output, header, body."""

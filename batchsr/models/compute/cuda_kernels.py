"""CUDA C++ of the kernels in batchsr.models.compute.cuda, which says what each of them computes.

MLX gives a kernel its inputs by name, their shapes as `x_shape` and so on, and types and constants as a template.
Each body is compiled for this processor too, to be tested (tests/model/cuda_on_cpu.py).
"""

from __future__ import annotations

VECTORS = """
template <typename T> struct __align__(2 * sizeof(T)) Two { T v[2]; };
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

// The sum of a value over eight neighbouring threads, the same in all of them.
__device__ __forceinline__ float sum8(float value) {
#pragma unroll
  for (int k = 1; k < 8; k *= 2) value += __shfl_xor_sync(0xffffffffu, value, k);
  return value;
}
"""

ADD = """
  const int channels = x_shape[1], at = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (at >= x_shape[0] * (channels / 8)) return;
  float a[8], b[8], c[8];
  load8(x + size_t(at) * 8, a);
  load8(h + size_t(at) * 8, b);
  load8(bias + at % (channels / 8) * 8, c);
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
# A thread takes eight neighbouring channels of every LANES-th position.
STATISTICS = """
  __shared__ float sums[8 * 256], squares[8 * 256];
  const int P = x_shape[1], C = x_shape[2], size = C / 32, vectors = C / 8, lanes = 256 / vectors;
  const int slabs = gridDim.x / x_shape[0], row = blockIdx.x / slabs, slab = blockIdx.x % slabs;
  const int v = threadIdx.x % vectors, lane = threadIdx.x / vectors;
  const size_t origin = size_t(row) * P * C;
  const int begin = int((long long)(P) * slab / slabs), end = int((long long)(P) * (slab + 1) / slabs);
  float s[8], q[8], offset[8];
  load8(bias + (bias_shape[0] > 1 ? row * C : 0) + v * 8, offset);
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
  const int P = x_shape[1], C = x_shape[2], size = C / 32, vectors = C / 8, lanes = 256 / vectors;
  const int slabs = partial_shape[1], parts = gridDim.x / x_shape[0];
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
  load8(bias + (bias_shape[0] > 1 ? row * C : 0) + v * 8, shift);
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

PRODUCT = """
// c (16 x 8) += a (16 x 16) b (16 x 8), spread over a warp as PTX's mma.m16n8k16 has it.
template <typename T>
__device__ __forceinline__ void product(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1);
#define PRODUCT(T, NAME)                                                                                           \\
  template <>                                                                                                      \\
  __device__ __forceinline__ void product<T>(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {    \\
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." NAME "." NAME ".f32 "                                    \\
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"                                           \\
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                                  \\
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));                                  \\
  }
PRODUCT(__half, "f16")
PRODUCT(__nv_bfloat16, "bf16")

__device__ __forceinline__ unsigned shared_address(const void* p) { return unsigned(__cvta_generic_to_shared(p)); }

// Four 8 x 8 matrices, the addresses of whose rows are those of a quarter warp each, spread as `product` wants its a.
__device__ __forceinline__ void load_matrices(unsigned (&a)[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
    : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3]) : "r"(address));
}
"""

# A block: 64 * MT samples of time, all C channels; a warp: 16 * MT samples. The tile of x, with what the taps reach
# beyond it, lies in shared memory in rows of C + 8 values, so that eight rows fall on different banks; a tap is then
# the same tile read some rows further down. Where PARTS is 2, x and w are float32 as sums of two half-precision
# numbers, of whose four products the smallest is left out. `options`: dilation; whether there is a residual.
CONV = """
  constexpr int TILE = 64 * MT, PITCH = C + 8, STEPS = C / 16, PAIRS = C / 16, SIZE = (TILE + REACH) * PITCH;
  __shared__ __align__(16) H tile[PARTS * SIZE];
  const int length = x_shape[1], taps = w_shape[1], dilation = options[0];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int start = blockIdx.x * TILE, first = start - dilation * (taps - 1) / 2, rows = TILE + dilation * (taps - 1);
  const size_t origin = size_t(blockIdx.y) * length * C;
  for (int v = threadIdx.x; v < rows * (C / 8); v += 128) {
    const int r = v / (C / 8), c = v % (C / 8) * 8, at = first + r;
    float value[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    if (at >= 0 && at < length) load8(x + origin + size_t(at) * C + c, value);
#pragma unroll
    for (int part = 0; part < PARTS; ++part) {
      store8(tile + part * SIZE + r * PITCH + c, value);
#pragma unroll
      for (int e = 0; e < 8; ++e) value[e] -= float(H(value[e]));
    }
  }
  __syncthreads();
  const unsigned row0 = shared_address(tile) + ((warp * 16 * MT + lane % 16) * PITCH + lane / 16 * 8) * 2;
  float acc[MT][2 * PAIRS][4];
#pragma unroll
  for (int m = 0; m < MT; ++m)
#pragma unroll
    for (int n = 0; n < 2 * PAIRS; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) acc[m][n][e] = 0.0f;
  for (int tap = 0; tap < taps; ++tap) {
#pragma unroll
    for (int k = 0; k < STEPS; ++k) {
      uint4 b[PARTS][PAIRS];
#pragma unroll
      for (int part = 0; part < PARTS; ++part)
#pragma unroll
        for (int n = 0; n < PAIRS; ++n)
          b[part][n] = reinterpret_cast<const uint4*>(w)[(((part * taps + tap) * STEPS + k) * PAIRS + n) * 32 + lane];
#pragma unroll
      for (int m = 0; m < MT; ++m)
#pragma unroll
        for (int part = 0; part < PARTS; ++part) {
          unsigned a[4];
          load_matrices(a, row0 + (part * SIZE + tap * dilation * PITCH + m * 16 * PITCH + k * 16) * 2);
#pragma unroll
          for (int other = 0; other < PARTS - part; ++other)
#pragma unroll
            for (int n = 0; n < PAIRS; ++n) {
              product<H>(acc[m][2 * n], a, b[other][n].x, b[other][n].y);
              product<H>(acc[m][2 * n + 1], a, b[other][n].z, b[other][n].w);
            }
        }
    }
  }
#pragma unroll
  for (int m = 0; m < MT; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int at = start + warp * 16 * MT + m * 16 + half * 8 + lane / 4;
      if (at >= length) continue;
#pragma unroll
      for (int n = 0; n < 2 * PAIRS; ++n) {
        const int c = n * 8 + lane % 4 * 2;
        const size_t to = origin + size_t(at) * C + c;
        Two<T> pair = *reinterpret_cast<const Two<T>*>(bias + c), more = {T(0.0f), T(0.0f)};
        if (options[1]) more = *reinterpret_cast<const Two<T>*>(residual + to);
#pragma unroll
        for (int e = 0; e < 2; ++e) pair.v[e] = T(acc[m][n][2 * half + e] + float(pair.v[e]) + float(more.v[e]));
        *reinterpret_cast<Two<T>*>(y + to) = pair;
      }
    }
"""

SOURCES = {
    "add": (["x", "h", "bias"], "y", VECTORS, ADD),
    "geglu": (["x"], "y", VECTORS, GEGLU),
    "statistics": (["x", "bias"], "partial", VECTORS, STATISTICS),
    "normalise": (["x", "partial", "bias", "weight", "beta", "options"], "y", VECTORS, NORMALISE),
    "conv": (["x", "w", "bias", "residual", "options"], "y", VECTORS + PRODUCT, CONV),
}
"""Inputs, output, header, body."""

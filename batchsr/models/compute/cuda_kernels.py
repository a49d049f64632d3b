"""CUDA C++ of the kernels in batchsr.models.compute.cuda, which says what each of them computes.

MLX gives a kernel its inputs by name, their shapes as `x_shape` and so on, and types and constants as a template.
Each body is compiled for this processor too, to be tested (tests/model/cuda_on_cpu.py).
"""

from __future__ import annotations

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

# Self-attention of one head, D channels, for 64 queries a block and 16 a warp; qkv (B * L, 3 C) holds queries, keys and
# values side by side. Keys and values come in tiles of 64; what was added up before is made smaller whenever a larger
# product turns up, so that no exponential overflows. `sizes`: L, C; `options`: the scale of the products.
ATTENTION = """
  constexpr int TILE = 64, PITCH = D + 8, ACROSS = TILE + 8;
  __shared__ __align__(16) T keys[TILE * PITCH], values[D * ACROSS];  // a line of the latter is one channel of all keys
  const int length = sizes[0], channels = sizes[1], heads = channels / D, stride = 3 * channels;
  const int head = blockIdx.y % heads, row = blockIdx.y / heads;
  const int lane = threadIdx.x % 32, quad = lane % 4 * 2;
  const int query = blockIdx.x * TILE + threadIdx.x / 32 * 16 + lane / 4;  // and the eighth after it
  const T* const begin = qkv + size_t(row) * length * stride + head * D;
  unsigned a[D / 16][4];
#pragma unroll
  for (int k = 0; k < D / 16; ++k)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int at = query + e % 2 * 8;
      a[k][e] = at < length ? word(begin + size_t(at) * stride + k * 16 + e / 2 * 8 + quad) : 0u;
    }
  float most[2] = {-1e30f, -1e30f}, total[2] = {0.0f, 0.0f}, out[D / 8][4];
#pragma unroll
  for (int n = 0; n < D / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) out[n][e] = 0.0f;
  for (int first = 0; first < length; first += TILE) {
    __syncthreads();
    for (int v = threadIdx.x; v < TILE * (D / 8); v += 128) {
      const int k = v / (D / 8), c = v % (D / 8) * 8;
      Eight<T> key, value;
      if (first + k < length) {
        const T* const from = begin + size_t(first + k) * stride + channels + c;
        key = *reinterpret_cast<const Eight<T>*>(from);
        value = *reinterpret_cast<const Eight<T>*>(from + channels);
      } else {
#pragma unroll
        for (int e = 0; e < 8; ++e) key.v[e] = value.v[e] = T(0.0f);
      }
      *reinterpret_cast<Eight<T>*>(keys + k * PITCH + c) = key;
#pragma unroll
      for (int e = 0; e < 8; ++e) values[(c + e) * ACROSS + k] = value.v[e];
    }
    __syncthreads();
    float s[TILE / 8][4], top[2] = {most[0], most[1]};
#pragma unroll
    for (int n = 0; n < TILE / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) s[n][e] = 0.0f;
#pragma unroll
      for (int k = 0; k < D / 16; ++k) {
        const T* const at = keys + (n * 8 + lane / 4) * PITCH + k * 16 + quad;
        product<T>(s[n], a[k], word(at), word(at + 8));
      }
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        s[n][e] = first + n * 8 + quad + e % 2 < length ? s[n][e] * options[0] : -1e30f;
        top[e / 2] = fmaxf(top[e / 2], s[n][e]);
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int k = 1; k < 4; k *= 2) top[r] = fmaxf(top[r], __shfl_xor_sync(0xffffffffu, top[r], k));
      const float smaller = __expf(most[r] - top[r]);
      most[r] = top[r];
      total[r] *= smaller;
#pragma unroll
      for (int n = 0; n < D / 8; ++n) { out[n][2 * r] *= smaller; out[n][2 * r + 1] *= smaller; }
    }
#pragma unroll
    for (int k = 0; k < TILE / 16; ++k) {
      unsigned p[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        float (&two)[4] = s[2 * k + e / 2];
        const int r = e % 2;
        const float u = __expf(two[2 * r] - most[r]), v = __expf(two[2 * r + 1] - most[r]);
        total[r] += u + v;
        const Two<T> pair = {T(u), T(v)};
        p[e] = word(pair.v);
      }
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
        const T* const at = values + (n * 8 + lane / 4) * ACROSS + k * 16 + quad;
        product<T>(out[n], p, word(at), word(at + 8));
      }
    }
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
#pragma unroll
    for (int k = 1; k < 4; k *= 2) total[r] += __shfl_xor_sync(0xffffffffu, total[r], k);
    const int at = query + r * 8;
    if (at < length)
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
        const Two<T> pair = {T(out[n][2 * r] / total[r]), T(out[n][2 * r + 1] / total[r])};
        *reinterpret_cast<Two<T>*>(y + (size_t(row) * length + at) * channels + head * D + n * 8 + quad) = pair;
      }
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

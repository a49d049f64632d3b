"""CUDA C++ of the kernels that multiply matrices on the tensor cores; `cuda_kernels` has the others.

What `product` and `load_matrices` do in PTX, a test on this processor does after PTX's description of who holds what.
"""

from __future__ import annotations

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

"""The anti-aliased activation as one GPU kernel, forward and backward; CUDA and Metal share every line of arithmetic.

A thread computes N neighbouring samples of one channel. With i its first sample and j counting the signal at the
doubled rate from 2i - 5, both passes have the same simple form, with every index a constant after unrolling:

    u_j  = 2 sum_q up[2q + j % 2]  x[i + j / 2 - q]          q = 0..5
    s_j  = u_j + gain sin(frequency u_j)^2                    (replicated where j lies outside the sound)
    y[i + p] = sum over 0 <= j - 2p < 12 of down[j - 2p] s_j

and backwards, with g the gradient of y (zero outside the sound),

    ds_j = sum_q down[2q + j % 2] g[i + j / 2 - q]            (plus, at both ends, what replication sent elsewhere)
    du_j = ds_j (1 + gain frequency sin(2 frequency u_j))
    dx[i + p] = sum over 0 <= j / 2 - p < 6 of 2 up[2(j / 2 - p) + j % 2] du_j

x is the input plus a bias for each channel: the bias of the convolution before, which then need not add it itself.

The source is C that nvcc, Metal and an ordinary C++ compiler accept, so that a test can run it anywhere; words that
Metal reserves (`thread`, `device`, `kernel` and so on) are no names in it. The one difference is sin(z)^2: CUDA uses
the cosine that its hardware has, which is good to 5e-7.

Loops over taps have few turns, so that a compiler unrolls all of them and keeps the arrays in registers: with a loop
over the N outputs instead, clang gave up and left every array in memory.
"""

from __future__ import annotations

OUTPUTS, OUTPUTS_BACKWARD = 32, 16
"""Samples a thread; the sound must be a multiple of both. (On an H100, 32 take two thirds of the time of 16.)"""
THREADS = 256
"""Threads a group."""

SIN2_TERMS = (
    0.9999998481976031,
    -0.3333321319695249,
    0.044441274863839066,
    -0.0031707483756408545,
    0.00013870969596609846,
    -3.539775468770316e-06,
)
"""sin(r)^2 = sum of SIN2_TERMS[k] r^(2k + 2) for |r| <= pi / 2; minimax, error 6e-9 in exact arithmetic."""
PI_HIGH, PI_LOW = 3.140625, 9.67653589793e-4
"""pi in two parts; the first has so few bits that its multiples are exact in float32."""

_REDUCED = f"""
#define PI_HIGH {PI_HIGH!r}f
#define PI_LOW {PI_LOW!r}f
#define INVERSE_PI 0.3183098861837907f

FUNCTION float reduced(float z) {{
  float k = rint(z * INVERSE_PI);
  return fma(-k, PI_LOW, fma(-k, PI_HIGH, z));
}}

// sin(2z) as the derivative of the polynomial for sin(z)^2, so that gradients are those of what is computed.
FUNCTION float sin_double(float z) {{
  float r = reduced(z);
  float w = r * r;
  float p = {6 * SIN2_TERMS[5]!r}f;
  p = fma(p, w, {5 * SIN2_TERMS[4]!r}f);
  p = fma(p, w, {4 * SIN2_TERMS[3]!r}f);
  p = fma(p, w, {3 * SIN2_TERMS[2]!r}f);
  p = fma(p, w, {2 * SIN2_TERMS[1]!r}f);
  p = fma(p, w, {SIN2_TERMS[0]!r}f);
  return 2.0f * r * p;
}}
"""
_BY_POLYNOMIAL = f"""
FUNCTION float sin_squared(float z) {{
  float r = reduced(z);
  float w = r * r;
  float p = {SIN2_TERMS[5]!r}f;
  p = fma(p, w, {SIN2_TERMS[4]!r}f);
  p = fma(p, w, {SIN2_TERMS[3]!r}f);
  p = fma(p, w, {SIN2_TERMS[2]!r}f);
  p = fma(p, w, {SIN2_TERMS[1]!r}f);
  p = fma(p, w, {SIN2_TERMS[0]!r}f);
  return p * w;
}}
"""
_BY_HARDWARE = """
FUNCTION float sin_squared(float z) { return fma(-0.5f, __cosf(2.0f * z), 0.5f); }
"""
HEADER = _REDUCED + _BY_POLYNOMIAL

_SETUP = """
  const int length = x_shape[1], channels = x_shape[2];
  const int index = int(THREAD);
  if (index >= x_shape[0] * (length / N) * channels) return;
  const int c = index % channels;
  const int block = index / channels % (length / N);
  const int row = index / channels / (length / N);
  const int i = block * N;
  const size_t origin = size_t(row) * length * channels + c;
  const float omega = frequency[c], g = gain[c], b = float(bias[c]);
  float fu[12], fd[12];
#pragma unroll
  for (int k = 0; k < 12; ++k) { fu[k] = 2.0f * float(up[k]); fd[k] = float(down[k]); }
  float xs[N + 10];
  if (i >= 5 && i + N + 5 <= length) {
    const size_t from = origin + size_t(i - 5) * channels;
#pragma unroll
    for (int k = 0; k < N + 10; ++k) xs[k] = float(x[from + k * channels]) + b;
  } else {
#pragma unroll
    for (int k = 0; k < N + 10; ++k) {
      int at = i - 5 + k;
      at = at < 0 ? 0 : (at >= length ? length - 1 : at);
      xs[k] = float(x[origin + size_t(at) * channels]) + b;
    }
  }
"""

FORWARD = (
    _SETUP
    + """
  // Replication repeats s, not x, so the first and the last s of the sound are needed before their turn.
  float s_first = 0.0f, s_last = 0.0f;
  if (i < 3) {
    float u = 0.0f;
#pragma unroll
    for (int q = 0; q < 6; ++q) u = fma(fu[2 * q + 1], xs[5 + 5 / 2 - q], u);
    s_first = fma(g, sin_squared(omega * u), u);
  }
  if (i + N + 3 > length) {
    float u = 0.0f;
#pragma unroll
    for (int q = 0; q < 6; ++q) u = fma(fu[2 * q], xs[5 + (2 * N + 4) / 2 - q], u);
    s_last = fma(g, sin_squared(omega * u), u);
  }
  float out[N];
#pragma unroll
  for (int p = 0; p < N; ++p) out[p] = 0.0f;
#pragma unroll
  for (int j = 0; j < 2 * N + 10; ++j) {
    float u = 0.0f;
#pragma unroll
    for (int q = 0; q < 6; ++q) u = fma(fu[2 * q + j % 2], xs[5 + j / 2 - q], u);
    float s = fma(g, sin_squared(omega * u), u);
    const int n = 2 * i - 5 + j;
    if (j < 5) s = n < 0 ? s_first : s;
    if (j >= 2 * N + 5) s = n >= 2 * length ? s_last : s;
#pragma unroll
    for (int q = 0; q < 6; ++q) {
      const int p = j / 2 - q;
      if (p >= 0 && p < N) out[p] = fma(fd[2 * q + j % 2], s, out[p]);
    }
    if (j >= 11 && j % 2 == 1) y[origin + size_t(i + (j - 11) / 2) * channels] = T(out[(j - 11) / 2]);
  }
"""
)

BACKWARD = (
    _SETUP
    + """
  float gs[N + 10];
#pragma unroll
  for (int k = 0; k < N + 10; ++k) {
    const int at = i - 5 + k;
    gs[k] = at < 0 || at >= length ? 0.0f : float(dy[origin + size_t(at) * channels]);
  }
  float out[N];
#pragma unroll
  for (int p = 0; p < N; ++p) out[p] = 0.0f;
  float sum_gain = 0.0f, sum_frequency = 0.0f;
#pragma unroll
  for (int j = 0; j < 2 * N + 10; ++j) {
    float u = 0.0f, ds = 0.0f;
#pragma unroll
    for (int q = 0; q < 6; ++q) {
      u = fma(fu[2 * q + j % 2], xs[5 + j / 2 - q], u);
      ds = fma(fd[2 * q + j % 2], gs[5 + j / 2 - q], ds);
    }
    const int n = 2 * i - 5 + j;
    if (j == 5 && n == 0) {  // taps that reached before the sound: 2m + k < 5 for m = 0, 1, 2
#pragma unroll
      for (int m = 0; m < 3; ++m)
#pragma unroll
        for (int k = 0; k < 5 - 2 * m; ++k) ds = fma(fd[k], gs[5 + m], ds);
    }
    if (j == 2 * N + 4 && n == 2 * length - 1) {  // and behind it: 2m + k > 2L + 4 for m = L - 1, L - 2, L - 3
#pragma unroll
      for (int m = 1; m < 4; ++m)
#pragma unroll
        for (int k = 5 + 2 * m; k < 12; ++k) ds = fma(fd[k], gs[N + 5 - m], ds);
    }
    const float slope = sin_double(omega * u);
    float du = fma(ds, g * omega * slope, ds);
    if (j < 5) du = n < 0 ? 0.0f : du;
    if (j >= 2 * N + 5) du = n >= 2 * length ? 0.0f : du;
    if (j >= 5 && j < 2 * N + 5) {
      sum_gain = fma(ds, sin_squared(omega * u), sum_gain);
      sum_frequency = fma(ds, g * u * slope, sum_frequency);
    }
#pragma unroll
    for (int q = 0; q < 6; ++q) {
      const int p = j / 2 - q;
      if (p >= 0 && p < N) out[p] = fma(fu[2 * q + j % 2], du, out[p]);
      // x is replicated too: what would go beyond an end belongs to the sample at that end.
      if (p < 0 && p >= -3 && i == 0) out[0] = fma(fu[2 * q + j % 2], du, out[0]);
      if (p >= N && p < N + 3 && i + N == length) out[N - 1] = fma(fu[2 * q + j % 2], du, out[N - 1]);
    }
  }
#pragma unroll
  for (int p = 0; p < N; ++p) dx[origin + size_t(i + p) * channels] = T(out[p]);
  dgain[index] = sum_gain;
  dfrequency[index] = sum_frequency;
"""
)

CUDA_HEADER = "#define FUNCTION __device__ __forceinline__\n" + _REDUCED + _BY_HARDWARE
CUDA_THREAD = "#define THREAD cooperative_groups::this_grid().thread_rank()\n"
METAL_HEADER = "#define FUNCTION static inline\n" + HEADER
METAL_THREAD = "#define THREAD thread_position_in_grid.x\n"

// Convolution, bias and SiLU for compute capability 7.5 in CUDA C++: what `toolchains.py` compares Triton's code with.
//
// y[m, n] = silu(bias[n] + sum over taps and channels of x * w[n, :]), x and y channels-last, w [C_OUT, K*K*C_IN]. An implicit
// matrix product whose depth is taps x channels in one; two buffers in shared memory, the next tile on its way in registers,
// mma.m16n8k8. `toolchains.py` puts constants in front: H W (input), OH OW, C_IN (a multiple of 8), C_OUT, K, S, BM BN BK, WM WN (warps).
#ifndef HOST
typedef unsigned int u32;
struct __half { unsigned short bits; };
__device__ __forceinline__ float __half2float(__half h) {
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(h.bits));
  return wide;
}
__device__ __forceinline__ u32 packed(float low, float high) {
  unsigned short first, second;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(first) : "f"(low));
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(second) : "f"(high));
  return first | (u32)second << 16;
}
__device__ __forceinline__ void load_matrices(u32 (&r)[4], const __half* at) {
  u32 address = (u32)__cvta_generic_to_shared(at);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}
__device__ __forceinline__ void multiply(float (&c)[4], u32 a0, u32 a1, u32 b) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a0), "r"(a1), "r"(b));
}
#endif

constexpr int THREADS = WM * WN * 32, DEPTH = K * K * C_IN, STEPS = (DEPTH + BK - 1) / BK, PITCH = BK + 8;
constexpr int A_LOADS = BM * BK / 8 / THREADS, B_LOADS = BN * BK / 8 / THREADS, ROW = BK / 8;
constexpr int MT = BM / WM / 16, NT = BN / WN / 16, PIXELS = OH * OW;
static_assert(BM * BK / 8 % THREADS == 0 && BN * BK / 8 % THREADS == 0 && MT > 0 && NT > 0, "tile");

extern "C" __global__ void __launch_bounds__(THREADS)
conv75(const __half* x, const __half* w, const __half* bias, __half* y) {
  __shared__ __align__(16) __half a_tile[2][BM * PITCH], b_tile[2][BN * PITCH];
  const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
  const int m0 = blockIdx.x * BM, n0 = blockIdx.y * BN, wm = warp % WM * (BM / WM), wn = warp / WM * (BN / WN);
  uint4 a_next[A_LOADS], b_next[B_LOADS];
  int oy[A_LOADS], ox[A_LOADS];
  float acc[MT][NT * 2][4] = {};
#pragma unroll
  for (int i = 0; i < A_LOADS; i++) {
    int m = m0 + (thread + i * THREADS) / ROW;
    oy[i] = m < PIXELS ? m / OW * S - K / 2 : -100000;
    ox[i] = m % OW * S - K / 2;
  }
  auto fetch = [&](int step) {
#pragma unroll
    for (int i = 0; i < A_LOADS; i++) {
      int k = step * BK + (thread + i * THREADS) % ROW * 8, tap = k / C_IN, channel = k % C_IN;
      int iy = oy[i] + tap / K, ix = ox[i] + tap % K;
      bool inside = k < DEPTH && iy >= 0 && iy < H && ix >= 0 && ix < W;
      a_next[i] = inside ? *(const uint4*)(x + (iy * W + ix) * C_IN + channel) : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int i = 0; i < B_LOADS; i++) {
      int k = step * BK + (thread + i * THREADS) % ROW * 8, n = n0 + (thread + i * THREADS) / ROW;
      b_next[i] = k < DEPTH && n < C_OUT ? *(const uint4*)(w + n * DEPTH + k) : make_uint4(0, 0, 0, 0);
    }
  };
  auto keep = [&](int buffer) {
#pragma unroll
    for (int i = 0; i < A_LOADS; i++) {
      int at = thread + i * THREADS;
      *(uint4*)(a_tile[buffer] + at / ROW * PITCH + at % ROW * 8) = a_next[i];
    }
#pragma unroll
    for (int i = 0; i < B_LOADS; i++) {
      int at = thread + i * THREADS;
      *(uint4*)(b_tile[buffer] + at / ROW * PITCH + at % ROW * 8) = b_next[i];
    }
  };
  fetch(0);
  keep(0);
  __syncthreads();
  for (int step = 0; step < STEPS; step++) {
    const int now = step & 1;
    if (step + 1 < STEPS) fetch(step + 1);
#pragma unroll
    for (int k = 0; k < BK; k += 16) {
      u32 a[MT][4], b[NT][4];
#pragma unroll
      for (int i = 0; i < MT; i++)
        load_matrices(a[i], a_tile[now] + (wm + i * 16 + lane % 16) * PITCH + k + lane / 16 * 8);
#pragma unroll
      for (int j = 0; j < NT; j++)  // [n 0-7, k 0-7], [n 0-7, k 8-15], [n 8-15, k 0-7], [n 8-15, k 8-15]
        load_matrices(b[j], b_tile[now] + (wn + j * 16 + lane / 16 * 8 + lane % 8) * PITCH + k + lane / 8 % 2 * 8);
#pragma unroll
      for (int i = 0; i < MT; i++)
#pragma unroll
        for (int j = 0; j < NT; j++)
#pragma unroll
          for (int half = 0; half < 2; half++) {
            multiply(acc[i][j * 2 + half], a[i][0], a[i][1], b[j][half * 2]);
            multiply(acc[i][j * 2 + half], a[i][2], a[i][3], b[j][half * 2 + 1]);
          }
    }
    if (step + 1 < STEPS) keep(now ^ 1);
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < MT; i++)
#pragma unroll
    for (int j = 0; j < NT * 2; j++) {
      int n = n0 + wn + j * 8 + lane % 4 * 2;
      if (n >= C_OUT) continue;
      float b0 = __half2float(bias[n]), b1 = __half2float(bias[n + 1]);
#pragma unroll
      for (int part = 0; part < 2; part++) {
        int m = m0 + wm + i * 16 + part * 8 + lane / 4;
        float v0 = acc[i][j][part * 2] + b0, v1 = acc[i][j][part * 2 + 1] + b1;
        v0 /= 1.0f + __expf(-v0);
        v1 /= 1.0f + __expf(-v1);
        if (m < PIXELS) *(u32*)(y + m * C_OUT + n) = packed(v0, v1);
      }
    }
}

// What benchmarks/toolchains.cu needs of CUDA, on a CPU: a thread for every thread of a block, one block after the other.
#include <barrier>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#define __device__
#define __forceinline__ inline
#define __global__
#define __shared__
#define __launch_bounds__(threads)

struct alignas(16) uint4 { unsigned x, y, z, w; };
struct Index { unsigned x, y, z; };
struct Warp {
    std::barrier<> together{32};
    const uint16_t* rows[32];
    unsigned a[32][2], b[32];
};

extern "C" { uint4 memory[4096]; }
static thread_local Index threadIdx;
static thread_local Warp* warp_of_thread;
static Index blockIdx;
static std::barrier<>* block_of_threads;

inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline void __syncthreads() { block_of_threads->arrive_and_wait(); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return std::exp(x); }
template <class T> inline T __ldg(const T* p) { return *p; }

inline float widened(uint16_t x) {
    _Float16 y;
    std::memcpy(&y, &x, 2);
    return (float)y;
}

inline unsigned rounded(float low, float high) {
    const _Float16 pair[2] = {(_Float16)low, (_Float16)high};
    unsigned bits;
    std::memcpy(&bits, pair, 4);
    return bits;
}

// ldmatrix: matrix i lies in the eight rows that lanes 8i to 8i+7 point to.
template <int N> inline void load_matrices(unsigned (&r)[N], const uint16_t* row) {
    Warp& warp = *warp_of_thread;
    const int lane = threadIdx.x % 32;
    warp.rows[lane] = row;
    warp.together.arrive_and_wait();
    for (int i = 0; i < N; i++) std::memcpy(&r[i], warp.rows[8 * i + lane / 4] + lane % 4 * 2, 4);
    warp.together.arrive_and_wait();
}

// mma.m16n8k8: PTX ISA, "Matrix Fragments for mma.m16n8k8".
inline void multiply(float (&c)[4], unsigned a0, unsigned a1, unsigned b) {
    Warp& warp = *warp_of_thread;
    const int lane = threadIdx.x % 32;
    warp.a[lane][0] = a0, warp.a[lane][1] = a1, warp.b[lane] = b;
    warp.together.arrive_and_wait();
    for (int e = 0; e < 4; e++)
        for (int k = 0; k < 8; k++) {
            const unsigned x = warp.a[lane / 4 * 4 + k / 2][e / 2], y = warp.b[(lane % 4 * 2 + e % 2) * 4 + k / 2];
            c[e] += widened(x >> 16 * (k % 2)) * widened(y >> 16 * (k % 2));
        }
    warp.together.arrive_and_wait();
}

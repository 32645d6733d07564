// Convolution, bias, SiLU and a sum as an implicit matrix product on Turing's tensor cores, in CUDA C++: what Triton 3.2
// is compared with in toolchains.py, which compiles this for compute_75 through NVRTC. The same parameters, the same
// arithmetic and the same rounding as `conv_kernel` of src/yoloproof/kernels/conv.py: y = act(W * x + bias + coarse sum) + sum,
// activations channels-last in float16, products summed in float32 and rounded once.
//
// Compile-time constants: K, S (kernel, stride), SOURCES (inputs side by side), ACT (SiLU), ADD (1: a sum after the
// activation; 2: before it, from half the resolution); the tile BM pixels x BN channels x BK deep, and the warps
// WM x WN x WK that share it: those along WK take parts of the depth, and their sums are added at the end.
// Channels and pixel strides are multiples of 8, so that every access to memory has 16 bytes.

typedef unsigned int u32;
typedef unsigned short u16;

constexpr int WARPS = WM * WN * WK, THREADS = 32 * WARPS;
constexpr int TM = BM / WM, TN = BN / WN, DEPTH = BK / WK;   // of one warp
constexpr int ROW = BK + 8;                                  // of shared memory: 8 more, so that eight rows meet no bank twice
constexpr int CHUNKS = BK / 8;                               // of 16 bytes in a row of operands
constexpr int STEP = THREADS / CHUNKS;                       // rows that all threads load at once
constexpr int LOADS_A = (BM + STEP - 1) / STEP, LOADS_B = (BN + STEP - 1) / STEP;
constexpr int HALF = (BM + BN) * ROW;                        // elements of one of the two buffers

static_assert(TM % 16 == 0 && TN % 8 == 0 && DEPTH % 16 == 0 && THREADS % CHUNKS == 0, "a tile that warps cannot share");

#ifndef EMULATED  // a test brings these for a CPU
__device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

__device__ __forceinline__ void load_matrices(u32 (&r)[4], const u16* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}

__device__ __forceinline__ void load_matrices(u32 (&r)[2], const u16* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}

__device__ __forceinline__ void multiply(float (&c)[4], u32 a0, u32 a1, u32 b) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a0), "r"(a1), "r"(b));
}

__device__ __forceinline__ float widened(u16 x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
    return y;
}

__device__ __forceinline__ u32 rounded(float low, float high) {
    u16 a, b;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(a) : "f"(low));
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(b) : "f"(high));
    return (u32)a | (u32)b << 16;
}

#endif

__device__ __forceinline__ uint4 read(const u16* p, bool there) {
    return there ? __ldg(reinterpret_cast<const uint4*>(p)) : make_uint4(0, 0, 0, 0);
}

// Where the next operands lie: an input, a tap of the kernel, and the first of its channels.
struct Place {
    const u16* x;
    int c, p, base, source, tap, start;
};

extern "C" __global__ void __launch_bounds__(THREADS) conv_mma(
    const u16* x0, const u16* x1, const u16* x2, const u16* x3, const u16* x4, const u16* x5,
    int c0, int c1, int c2, int c3, int c4, int c5, int p0, int p1, int p2, int p3, int p4, int p5,
    const u16* w, const u16* bias, const u16* add, int add_p, u16* y, int y_p,
    int height, int width, int out_h, int out_w, int c_in, int c_out, int m_total) {
    extern __shared__ uint4 memory[];
    u16* shared = reinterpret_cast<u16*>(memory);
    const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
    const int wm = warp % WM, wn = warp / WM % WN, wk = warp / (WM * WN);
    const int first_m = blockIdx.x * BM, first_n = blockIdx.y * BN;
    const int chunk = thread % CHUNKS * 8, row = thread / CHUNKS;

    // The pixel of each row that this thread loads at tap 0, and the taps that lie inside the picture, as bits.
    int pixel[LOADS_A];
    u32 seen[LOADS_A];
#pragma unroll
    for (int i = 0; i < LOADS_A; i++) {
        const int r = row + i * STEP, m = first_m + r;
        const bool inside = m < m_total && (BM % STEP == 0 || r < BM);
        if (K == 1) {
            pixel[i] = m;
            seen[i] = inside;
        } else {
            const int b = m / (out_h * out_w), place = m - b * (out_h * out_w), oy = place / out_w;
            const int iy = oy * S - K / 2, ix = (place - oy * out_w) * S - K / 2;
            pixel[i] = (b * height + iy) * width + ix;
            seen[i] = 0;
#pragma unroll
            for (int tap = 0; tap < K * K; tap++) {
                const int yy = iy + tap / K, xx = ix + tap % K;
                seen[i] |= (u32)(inside && yy >= 0 && yy < height && xx >= 0 && xx < width) << tap;
            }
        }
    }
    const u16* filters = w + (size_t)(first_n + row) * (K * K * c_in) + chunk;

    // What the epilogue adds is on its way while the products are computed.
    float acc[TM / 16][TN / 8][4] = {};
    u32 summand[ADD ? TM / 16 : 1][ADD ? TN / 8 : 1][2] = {};
    if (ADD && wk == 0) {
#pragma unroll
        for (int i = 0; i < TM / 16; i++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int m = first_m + wm * TM + i * 16 + h * 8 + lane / 4;
                int from = m;
                if (ADD == 2) {
                    const int b = m / (out_h * out_w), place = m - b * (out_h * out_w), oy = place / out_w;
                    from = (b * (out_h / 2) + oy / 2) * (out_w / 2) + (place - oy * out_w) / 2;
                }
#pragma unroll
                for (int j = 0; j < TN / 8; j++) {
                    const int n = first_n + wn * TN + j * 8 + lane % 4 * 2;
                    if (m < m_total && n < c_out)
                        summand[i][j][h] = __ldg(reinterpret_cast<const u32*>(add + (size_t)from * add_p + n));
                }
            }
    }

    int steps = K * K * ((c0 + BK - 1) / BK);
    if (SOURCES > 1) steps += K * K * ((c1 + BK - 1) / BK);
    if (SOURCES > 2) steps += K * K * ((c2 + BK - 1) / BK);
    if (SOURCES > 3) steps += K * K * ((c3 + BK - 1) / BK);
    if (SOURCES > 4) steps += K * K * ((c4 + BK - 1) / BK);
    if (SOURCES > 5) steps += K * K * ((c5 + BK - 1) / BK);
    Place at = {x0, c0, p0, 0, 0, 0, 0};
    uint4 next_a[LOADS_A], next_b[LOADS_B];

    auto load = [&]() {
        const bool channel = at.start + chunk < at.c;
        const int shift = K == 1 ? 0 : at.tap / K * width + at.tap % K;
#pragma unroll
        for (int i = 0; i < LOADS_A; i++)
            next_a[i] = read(at.x + (pixel[i] + shift) * at.p + at.start + chunk, channel && seen[i] >> at.tap & 1);
        const u16* from = filters + at.tap * c_in + at.base + at.start;
#pragma unroll
        for (int i = 0; i < LOADS_B; i++) {
            const int r = row + i * STEP;
            const bool there = first_n + r < c_out && (BN % STEP == 0 || r < BN);
            next_b[i] = read(from + i * STEP * (K * K * c_in), channel && there);
        }
        at.start += BK;
        if (at.start >= at.c) {
            at.start = 0;
            at.tap += 1;
            if (K == 1 || at.tap == K * K) {
                at.tap = 0;
                if (SOURCES > 1) {
                    at.base += at.c;
                    at.source += 1;
                    if (at.source == 1) at.x = x1, at.c = c1, at.p = p1;
                    if (SOURCES > 2 && at.source == 2) at.x = x2, at.c = c2, at.p = p2;
                    if (SOURCES > 3 && at.source == 3) at.x = x3, at.c = c3, at.p = p3;
                    if (SOURCES > 4 && at.source == 4) at.x = x4, at.c = c4, at.p = p4;
                    if (SOURCES > 5 && at.source == 5) at.x = x5, at.c = c5, at.p = p5;
                }
            }
        }
    };

    auto keep = [&](int buffer) {
        u16* to = shared + buffer * HALF + row * ROW + chunk;
#pragma unroll
        for (int i = 0; i < LOADS_A; i++)
            if (BM % STEP == 0 || row + i * STEP < BM) *reinterpret_cast<uint4*>(to + i * STEP * ROW) = next_a[i];
#pragma unroll
        for (int i = 0; i < LOADS_B; i++)
            if (BN % STEP == 0 || row + i * STEP < BN) *reinterpret_cast<uint4*>(to + (BM + i * STEP) * ROW) = next_b[i];
    };

    auto product = [&](int buffer) {
        const u16* a_rows = shared + buffer * HALF + (wm * TM + lane % 16) * ROW + wk * DEPTH + lane / 16 * 8;
        const u16* b_rows = shared + buffer * HALF + (BM + wn * TN + lane % 8) * ROW + wk * DEPTH + lane / 8 % 2 * 8;
#pragma unroll
        for (int k = 0; k < DEPTH; k += 16) {
            u32 b[TN / 8][2];
#pragma unroll
            for (int j = 0; j + 1 < TN / 8; j += 2) {
                u32 two[4];
                load_matrices(two, b_rows + (j + lane / 16) * 8 * ROW + k);
                b[j][0] = two[0], b[j][1] = two[1], b[j + 1][0] = two[2], b[j + 1][1] = two[3];
            }
            if (TN / 8 % 2) load_matrices(b[TN / 8 - 1], b_rows + (TN / 8 - 1) * 8 * ROW + k);
#pragma unroll
            for (int i = 0; i < TM / 16; i++) {
                u32 a[4];
                load_matrices(a, a_rows + i * 16 * ROW + k);
#pragma unroll
                for (int j = 0; j < TN / 8; j++) multiply(acc[i][j], a[0], a[1], b[j][0]);
#pragma unroll
                for (int j = 0; j < TN / 8; j++) multiply(acc[i][j], a[2], a[3], b[j][1]);
            }
        }
    };

    load();
    keep(0);
    __syncthreads();
    for (int step = 0; step < steps; step++) {
        if (step + 1 < steps) load();
        product(step & 1);
        if (step + 1 < steps) keep(step + 1 & 1);
        __syncthreads();
    }

    if (WK > 1) {  // the warps along the depth add up their parts
        float* parts = reinterpret_cast<float*>(memory);
        constexpr int PART = TM * TN;
        if (wk > 0) {
            float* mine = parts + ((wk - 1) * WM * WN + warp % (WM * WN)) * PART + lane;
#pragma unroll
            for (int i = 0; i < TM / 16; i++)
#pragma unroll
                for (int j = 0; j < TN / 8; j++)
#pragma unroll
                    for (int e = 0; e < 4; e++) mine[((i * (TN / 8) + j) * 4 + e) * 32] = acc[i][j][e];
        }
        __syncthreads();
        if (wk == 0)
            for (int other = 0; other < WK - 1; other++) {
                const float* theirs = parts + (other * WM * WN + warp) * PART + lane;
#pragma unroll
                for (int i = 0; i < TM / 16; i++)
#pragma unroll
                    for (int j = 0; j < TN / 8; j++)
#pragma unroll
                        for (int e = 0; e < 4; e++) acc[i][j][e] += theirs[((i * (TN / 8) + j) * 4 + e) * 32];
            }
        __syncthreads();
    }

    // Bias, activation and sums in float32; rounded once; through shared memory, so that 16 bytes are stored at a time.
    constexpr int OUT = BN + 8;
    if (wk == 0) {
#pragma unroll
        for (int j = 0; j < TN / 8; j++) {
            const int column = wn * TN + j * 8 + lane % 4 * 2, n = first_n + column;
            const u32 shift = n < c_out ? __ldg(reinterpret_cast<const u32*>(bias + n)) : 0;
#pragma unroll
            for (int i = 0; i < TM / 16; i++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    float value[2];
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        const float other = ADD ? widened((u16)(summand[ADD ? i : 0][ADD ? j : 0][h] >> 16 * e)) : 0.0f;
                        float v = acc[i][j][2 * h + e] + widened((u16)(shift >> 16 * e));
                        if (ADD == 2) v += other;
                        if (ACT) v = __fdividef(v, 1.0f + __expf(-v));
                        value[e] = ADD == 1 ? v + other : v;
                    }
                    *reinterpret_cast<u32*>(shared + (wm * TM + i * 16 + h * 8 + lane / 4) * OUT + column) =
                        rounded(value[0], value[1]);
                }
        }
    }
    __syncthreads();
#pragma unroll
    for (int i = thread; i < BM * BN / 8; i += THREADS) {
        const int r = i / (BN / 8), column = i % (BN / 8) * 8, m = first_m + r, n = first_n + column;
        if (m < m_total && n < c_out)
            *reinterpret_cast<uint4*>(y + (size_t)m * y_p + n) = *reinterpret_cast<const uint4*>(shared + r * OUT + column);
    }
}

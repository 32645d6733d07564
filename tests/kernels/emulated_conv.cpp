// benchmarks/toolchains.cu for a CPU. Its constants come as -D, the path as -DKERNEL.
#include "emulated_gpu.hpp"
#define EMULATED
#include KERNEL

extern "C" void run(int grid_x, int grid_y, const uint64_t* a) {
    for (unsigned y = 0; y < (unsigned)grid_y; y++)
        for (unsigned x = 0; x < (unsigned)grid_x; x++) {
            blockIdx = {x, y, 0};
            std::memset(memory, 0xFF, sizeof memory);  // NaN: nothing may be read that was not written
            std::barrier<> block(THREADS);
            block_of_threads = &block;
            std::vector<std::unique_ptr<Warp>> warps;
            for (int i = 0; i < WARPS; i++) warps.push_back(std::make_unique<Warp>());
            std::vector<std::thread> threads;
            for (unsigned t = 0; t < (unsigned)THREADS; t++)
                threads.emplace_back([&, t] {
                    threadIdx = {t, 0, 0};
                    warp_of_thread = warps[t / 32].get();
                    auto at = [&](int i) { return (u16*)a[i]; };
                    auto n = [&](int i) { return (int)a[i]; };
                    conv_mma(at(0), at(1), at(2), at(3), at(4), at(5), n(6), n(7), n(8), n(9), n(10), n(11), n(12), n(13),
                             n(14), n(15), n(16), n(17), at(18), at(19), at(20), n(21), at(22), n(23), n(24), n(25), n(26),
                             n(27), n(28), n(29), n(30));
                });
            for (auto& thread : threads) thread.join();
        }
}

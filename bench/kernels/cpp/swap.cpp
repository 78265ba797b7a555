#include "loops.h"

namespace {

template <class T>
void swap(const T* gradient, const int64_t* ids, const bool* mask, const T* embeddings, const int64_t* neighbours,
          const float* cosines, const int64_t* rows, float bound, int64_t count, int64_t H, int64_t K, int64_t* token,
          float* gain, int64_t threads) {
  share(count, threads, [=](int64_t i) {
    token[i] = ids[i], gain[i] = -std::numeric_limits<float>::infinity();
    const int64_t row = rows[ids[i]];
    if (!mask[i] || row < 0) return;
    const T *own = embeddings + ids[i] * H, *g = gradient + i * H;
    for (int64_t k = 0; k < K; ++k) {
      if (!(cosines[row * K + k] >= bound)) continue;
      const T* other = embeddings + neighbours[row * K + k] * H;
      const float found = float(sum<T>(H, [=](int64_t h) { return (other[h] - own[h]) * g[h]; }));
      if (found > gain[i]) gain[i] = found, token[i] = neighbours[row * K + k];
    }
  });
}

}  // namespace

#define EXPORT(T, NAME)                                                                                               \
  extern "C" void NAME(const T* gradient, const int64_t* ids, const bool* mask, const T* embeddings,                  \
                       const int64_t* neighbours, const float* cosines, const int64_t* rows, float bound,             \
                       int64_t count, int64_t H, int64_t K, int64_t* token, float* gain, int64_t threads) {           \
    swap(gradient, ids, mask, embeddings, neighbours, cosines, rows, bound, count, H, K, token, gain, threads);       \
  }
EXPORT(float, swap_float32)
EXPORT(double, swap_float64)

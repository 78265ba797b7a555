#include "loops.h"

namespace {

template <class T>
T largest(int64_t count, const T* values) {
  T lane[LANES] = {};
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES)
    for (int64_t j = 0; j < LANES; ++j) lane[j] = std::abs(values[i + j]) > lane[j] ? std::abs(values[i + j]) : lane[j];
  for (; i < count; ++i) lane[0] = std::max(lane[0], std::abs(values[i]));
  return *std::max_element(lane, lane + LANES);
}

template <class T>
void ascent(const T* delta, const T* gradient, const bool* mask, double step_size, double radius, bool l2, int64_t B,
            int64_t tokens, int64_t H, T* out, const T* text, T* shifted, int64_t threads) {
  share(B, threads, [=](int64_t example) {
    const bool* in = mask + example * tokens;
    double dd = 0, dg = 0, gg = 0, most = 0;
    for (int64_t token = 0; token < tokens; ++token) {
      if (!in[token]) continue;
      const T *d = delta + (example * tokens + token) * H, *g = gradient + (example * tokens + token) * H;
      if (l2) {
        gg += sum<T>(H, [=](int64_t i) { return g[i] * g[i]; });
        if (radius == 0) continue;
        dd += sum<T>(H, [=](int64_t i) { return d[i] * d[i]; });
        dg += sum<T>(H, [=](int64_t i) { return d[i] * g[i]; });
      } else {
        most = std::max(most, double(largest(H, g)));
      }
    }
    const double norm = l2 ? std::sqrt(gg) : most, rate = step_size / std::max(norm, 1e-8);
    const double length = std::sqrt(std::max(dd + 2 * rate * dg + rate * norm * rate * norm, 0.0));
    const T step = T(rate), shrink = T(l2 && radius != 0 && length > radius ? radius / length : 1.0);
    const T bound = T(l2 || radius == 0 ? std::numeric_limits<double>::infinity() : radius);
    for (int64_t token = 0; token < tokens; ++token) {
      const int64_t at = (example * tokens + token) * H;
      const T *d = delta + at, *g = gradient + at;
      T* to = out + at;
      if (!in[token]) {
        std::memset(to, 0, H * sizeof(T));
        if (text) std::memcpy(shifted + at, text + at, H * sizeof(T));
        continue;
      }
      for (int64_t i = 0; i < H; ++i) {
        const T moved = (d[i] + step * g[i]) * shrink;
        to[i] = moved < -bound ? -bound : moved > bound ? bound : moved;
      }
      if (!text) continue;
      for (int64_t i = 0; i < H; ++i) shifted[at + i] = text[at + i] + to[i];
    }
  });
}

}  // namespace

#define EXPORT(T, NAME)                                                                                               \
  extern "C" void NAME(const T* delta, const T* gradient, const bool* mask, double step_size, double radius, bool l2, \
                       int64_t B, int64_t tokens, int64_t H, T* out, const T* text, T* shifted, int64_t threads) {    \
    ascent(delta, gradient, mask, step_size, radius, l2, B, tokens, H, out, text, shifted, threads);                  \
  }
EXPORT(float, ascent_float32)
EXPORT(double, ascent_float64)
